"""softcue's methods beside SetFit, on the same encoder, from sixteen examples a class.

SetFit wants an environment of its own, outside this folder:

    python3.11 -m venv setfit-env
    setfit-env/bin/pip install torch==2.13.0
    setfit-env/bin/pip install setfit==1.2.0
    python -m benchmarks.setfit --setfit-python setfit-env/bin/python --repeat 10 --threads 1 --clock cpu

--repeat: draws of examples. --only: one data set. --methods: ours, with commas between. Seconds are those of
training, without opening the encoder and without the test rows.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import CLOCKS, Options, Results, Row, read_options
from softcue.api import evaluate, train
from softcue.base import Base, open_base
from softcue.readers import Data
from softcue.tasks import data_root, open_data
from studies.methods.cell import draw

SHOTS = 16  # examples a class
METHODS = ("probe", "spt", "pasta", "stp", "lora")
TESTED = 300  # test rows at most, the same ones in every draw
# SetFit's steps of 16 pairs: one epoch by default, which is days for 150 classes
STEPS = {"sst2": -1, "atis_intent": 100, "clinc150": 100}
DRAWS = {"atis_intent": 3, "clinc150": 2}  # at most; a draw takes SetFit minutes


@dataclass(frozen=True)
class Draw:
    """What both sides see."""

    data: Data  # splits: train, test
    seed: int
    steps: int  # of SetFit; -1: its default


def drawn(name: str, seed: int, shots: int, tested: int) -> Draw:
    """Draw `shots` examples a class from train by the seed; the test rows do not depend on it."""
    data = open_data(name, data_root=data_root(None), limit={"test": tested})
    few = draw(data.splits["train"], shots, seed)
    return Draw(replace(data, splits={"train": few, "test": data.splits["test"]}), seed, STEPS[name])


class Rival:
    """SetFit's process, which answers one draw after another."""

    def __init__(self, python: str, base: Base, options: Options) -> None:
        """Start it; the encoder is the one in the base's folder."""
        self.told = {
            "encoder": str(base.backbone.folder),
            "threads": options.threads,
            "clock": options.clock,
        }
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [python, "-P", str(Path(__file__).with_name("setfit_side.py"))],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(options.threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Rival":
        """Return itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        """End the process and delete its files."""
        self.process.communicate()
        self.folder.cleanup()

    def measure(self, one: Draw) -> Row:
        """Train SetFit and score its answers."""
        splits = one.data.splits
        file = Path(self.folder.name) / "draw.json"
        own = {
            "train": [[record.text, record.label] for record in splits["train"]],
            "test": [record.text for record in splits["test"]],
            "seed": one.seed,
            "steps": one.steps,
        }
        file.write_text(json.dumps({**self.told, **own}), encoding="utf-8")
        assert self.process.stdin is not None and self.process.stdout is not None
        print(file, file=self.process.stdin, flush=True)
        if not self.process.stdout.readline():
            raise SystemExit("setfit: its process ended; what it said stands above")
        found: dict[str, Any] = json.loads(file.with_suffix(".answers").read_text(encoding="utf-8"))
        pairs = list(zip(found.pop("answers"), splits["test"], strict=True))
        return {"accuracy": sum(given == record.label for given, record in pairs) / len(pairs), **found}


def ours(method: str, base: Base, options: Options, one: Draw) -> Row:
    """Train by the method's preset, then score; one test row is scored inside the time."""
    clock, splits = CLOCKS[options.clock], one.data.splits
    short = replace(one.data, splits={"train": splits["train"], "test": splits["test"][:1]})
    began = clock()
    adapter = train(short, backbone=base, method=method, seed=one.seed)
    seconds = clock() - began
    return {"accuracy": evaluate(adapter, one.data, backbone=base).scores["accuracy"], "seconds": seconds}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, write."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--setfit-python")
    parser.add_argument("--only", choices=STEPS)
    parser.add_argument("--methods", default=",".join(METHODS))
    own, rest = parser.parse_known_args(arguments)
    options = read_options(__doc__ or "", rest, ("cpu",))
    if own.setfit_python is None:
        print("setfit: not measured; --setfit-python PATH says where SetFit is")
        return
    base = open_base("minilm", "auto", options.device)
    results = Results("setfit", options)
    with ExitStack() as stack:
        rival = stack.enter_context(Rival(own.setfit_python, base, options))
        sides = {name: partial(ours, name, base, options) for name in own.methods.split(",")}
        turns = {"setfit": rival.measure, **sides}
        warm = drawn("sst2", 0, 2, 2)
        for turn in turns.values():
            turn(warm)
        names = [own.only] if own.only else list(STEPS)[:1] if options.quick else list(STEPS)
        for seed in range(1 if options.quick else options.repeat):
            for name in names:
                if seed < DRAWS.get(name, options.repeat):
                    one = drawn(name, seed, SHOTS, TESTED)
                    for side in turns if seed % 2 else reversed(turns):
                        case = {"data": name, "draw": seed, "side": side}
                        results.add(case, partial(_row, case, turns[side], one))
    results.finish()


def _row(case: Row, turn: Callable[[Draw], Row], one: Draw) -> list[Row]:
    counts = {"rows": len(one.data.splits["train"]), "tested": len(one.data.splits["test"])}
    return [{**case, **counts, **turn(one)}]


if __name__ == "__main__":
    main()
