"""Tries settings that no sweep over rates finds - prefix length, the head's part of the rate,
LoRA's rate for tags - on development sets.

    python -m scripts.preset_settings --data-root DATA            # hours; the same command goes on after a
    kill

At most 2,000 training rows (sst2_small: 400), the preset's number of examples, a tenth of train selects the
step. What is compared is the score of the test rows, which in a development set are free to choose with, and
are up to ten times as many as select. Writes a JSON to OUT; `python -m scripts.presets_page` shows it. The
step with the best score is kept (`tolerance` 0), as it was when this began.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.common import machine
from scripts.check_presets import OPTIONS, RESULTS, ROWS, train
from softcue.base import Base, open_base
from softcue.errors import SoftcueError
from softcue.files import read_json, write_file
from softcue.readers import Data
from softcue.readers.records import Record
from softcue.tasks import open_data
from softcue.training.full import METHOD as FULL
from softcue.training.job import Job, method_class
from softcue.training.settings import split_settings

Settings = Mapping[str, Any]
LORA: tuple[tuple[str, Settings], ...] = (
    ("lora", {"rate": 0.004, "head_rate": 1.0}),
    ("lora", {"rate": 0.009, "head_rate": 1.0}),
)
TAGS: tuple[tuple[str, Settings], ...] = (
    (FULL, {}),
    ("spt", {"length": 16, "rate": 0.09, "head_rate": 1.0}),
    ("spt", {"length": 64, "rate": 0.03, "head_rate": 1.0}),
    ("spt", {"length": 64, "rate": 0.09, "head_rate": 1.0}),
    ("spt", {"length": 64, "rate": 0.09, "head_rate": 1.0, "epochs": 60, "patience": 0}),
    ("spt", {"length": 64, "rate": 0.09, "head_rate": 1.0, "key_dropout": 0.3, "score_dropout": 0.3}),
    ("spt", {"length": 64, "rate": 0.09, "head_rate": 1.0, "key_dropout": 0.0, "score_dropout": 0.0}),
    ("spt", {"length": 64, "rate": 0.09, "head_rate": 1.0, "decay": 0.03}),
    ("spt", {"length": 64, "rate": 0.09, "head_rate": 1.0, "backbone_dropout": False}),
    ("spt", {"length": 64, "rate": 0.09, "head_rate": 0.1}),
    ("spt", {"length": 64, "rate": 0.06, "head_rate": 0.1, "batch": 16}),
    ("apt", {"length": 16, "rate": 0.03, "head_rate": 1.0}),
    ("apt", {"length": 64, "rate": 0.05, "head_rate": 1.0}),
    *LORA,
)
LABELS: tuple[tuple[str, Settings], ...] = tuple(
    (method, {"rate": rate, "head_rate": part})
    for method, rate in (("pasta", 0.02), ("spt", 0.03), ("apt", 0.03), ("gpc", 0.009))
    for part in (1.0, 0.3, 0.1)
)
TRIED = {  # data set, training rows, seeds, and what is tried
    "mit_movie": ("mit_movie", ROWS, 1, TAGS),
    "conll04": ("conll04", ROWS, 1, TAGS),
    "sparse": ("conll04", ROWS, 3, LORA),
    "atis_intent": ("atis_intent", ROWS, 2, LABELS),
    "sst2": ("sst2", ROWS, 2, LABELS),
    "sst2_small": ("sst2", 400, 3, LABELS),
}
KEPT = "Other"  # the one type that is left of the tags in "sparse": most sentences have none


def main() -> None:
    """Read the command line, train, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data-root", type=Path, required=True, help="folder with a folder for each data set"
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "settings", help="folder of a JSON for each data set"
    )
    parser.add_argument("--sets", default=",".join(TRIED), help="names with commas between")
    given = parser.parse_args()
    unknown = sorted(set(given.sets.split(",")) - set(TRIED))
    if unknown:
        sys.exit(
            f"preset_settings: {', '.join(unknown)} is not a set to choose with; expected some of "
            f"{', '.join(TRIED)}"
        )
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        base = open_base("minilm")
        for name in given.sets.split(","):
            source, rows, seeds, tried = TRIED[name]
            data = open_data(source, data_root=given.data_root, limit={"train": rows})
            study(
                sparse(data, KEPT) if name == "sparse" else data,
                tried,
                seeds,
                base,
                given.out / f"{name}.json",
            )
    except SoftcueError as error:
        sys.exit(f"preset_settings: {error}")


def sparse(data: Data, kept: str) -> Data:
    """The same sentences with the tags of one type alone."""
    labels = tuple(label for label in data.labels if label in ("O", f"B-{kept}", f"I-{kept}"))

    def bared(record: Record) -> Record:
        return replace(record, tags=tuple(tag if tag in labels else "O" for tag in record.tags))

    splits = {name: [bared(record) for record in records] for name, records in data.splits.items()}
    return replace(data, splits=splits, labels=labels)


def study(data: Data, tried: Sequence[tuple[str, Settings]], seeds: int, base: Base, file: Path) -> None:
    """Train what `file` does not hold yet, and write it after each."""
    runs: list[dict[str, Any]] = read_json(file, SoftcueError)["runs"] if file.exists() else []
    for method, settings in tried:
        if any((run["method"], run["settings"]) == (method, dict(settings)) for run in runs):
            continue
        began = time.monotonic()
        own, training = split_settings(None if method == FULL else method_class(method), settings)
        training = {"tolerance": 0.0, **training}
        scores = train(
            [Job(data, method, own, training, seed, from_train=True) for seed in range(seeds)], base
        )
        found = [float(own[data.metric]) for own in scores]
        commit = machine(OPTIONS)["commit"]
        runs.append(
            {
                "method": method,
                "settings": dict(settings),
                "scores": found,
                "seconds": time.monotonic() - began,
                "commit": commit,
            }
        )
        write_file(
            file,
            json.dumps(
                {"metric": data.metric, "rows": len(data.splits["train"]), "runs": runs}, indent=1
            ).encode(),
        )
        print(
            f"{data.name} {method} {settings}: {data.metric} {mean(found):.4f}, {runs[-1]['seconds']:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
