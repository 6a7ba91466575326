"""SetFit's side of `benchmarks.setfit`, run by the Python of SetFit's own environment.

It reads the names of files from its input, one a line. Each file holds one draw; the answers go into a file
beside it, and a line to the output says so.
"""

import json
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import torch
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PACKAGES = ("setfit", "sentence-transformers", "transformers", "torch")


def answer(told: dict) -> dict:
    """Train on one draw and answer its test texts; the seconds are those of training alone."""
    torch.set_num_threads(told["threads"])
    texts, given = zip(*told["train"], strict=True)
    labels = sorted(set(given))
    model = SetFitModel.from_pretrained(told["encoder"], labels=labels, device="cpu")
    rows = Dataset.from_dict({"text": texts, "label": [labels.index(one) for one in given]})
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            save_strategy="no",
            report_to="none",
            seed=told["seed"],
            max_steps=told["steps"],
        )
        clock = CLOCKS[told["clock"]]
        began = clock()
        trainer = Trainer(model=model, args=settings, train_dataset=rows)
        trainer.train()
        seconds = clock() - began
    return {
        "answers": list(map(str, model.predict(list(told["test"])))),
        "seconds": seconds,
        "steps": trainer.st_trainer.state.global_step,
        "versions": " ".join(f"{name} {version(name)}" for name in PACKAGES),
    }


def main() -> None:
    """Answer until the input ends; what the libraries print goes to the errors' stream."""
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        file = Path(line.strip())
        found = answer(json.loads(file.read_text(encoding="utf-8")))
        file.with_suffix(".answers").write_text(json.dumps(found), encoding="utf-8")
        print("done", file=output, flush=True)


if __name__ == "__main__":
    main()
