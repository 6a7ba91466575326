"""Tries parts of the presets' rates on an encoder of base size, with rows of train alone.

    python -m scripts.base_rates --data-root DATA --mpnet FOLDER    # hours; goes on after a kill
    python -m scripts.base_rates --data-root DATA --mpnet FOLDER --only ptuning/cola

Of 2,000 training rows 1,000 train, a tenth of them selects the step, and 500 of the others are scored: no row
that studies/methods reports is read. All of a method on a set train packed, and each is written as it ends.
In float32 an example took 0.13 s of a busy core: some half an hour for three parts on cola.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.common import machine
from scripts.check_presets import OPTIONS, RESULTS
from softcue.adapter import Adapter
from softcue.base import Base, open_base
from softcue.errors import SoftcueError
from softcue.files import read_json, write_file
from softcue.readers import Data
from softcue.tasks import open_data
from softcue.training.job import Job
from softcue.training.jobs import train_jobs
from softcue.training.settings import preset

RESULT = RESULTS / "base_rates.json"
LIMIT, ROWS, SCORED = 2_000, 1_000, 500  # rows that are opened, that train, and that are scored
EPOCHS = 5
KEYS = ("data", "method", "epochs", "share")  # of a run, which tell it from the others


@dataclass(frozen=True)
class Study:
    """What is tried of one method on one set: parts of the preset's rate."""

    data: str
    method: str
    shares: tuple[float, ...]

    def jobs(self, data: Data) -> Iterator[tuple[dict[str, Any], Job]]:
        """Make what tells a run from the others, and its job."""
        rate = preset(self.method, data.kind, len(data.splits["train"]), {}).rate
        for share in self.shares:
            told = {"data": self.data, "method": self.method, "epochs": EPOCHS, "share": share}
            training = {"rate": rate * share, "epochs": EPOCHS, "patience": 0}
            yield told, Job(data, self.method, training=training, from_train=True)


STUDIES = (
    Study("cola", "ptuning", (1.0, 0.3, 0.1)),
    Study("cola", "apt", (1.0, 0.3, 0.1)),
    Study("cola", "pasta", (1.0, 0.5, 0.25)),
    *(
        Study(name, method, (1.0, 0.3))
        for name in ("conll2003", "mrpc")
        for method in ("ptuning", "apt", "pasta")
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, train, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data-root", type=Path, required=True, help="folder with a folder for each data set"
    )
    parser.add_argument("--mpnet", required=True, help="folder of all-mpnet-base-v2")
    parser.add_argument("--out", type=Path, default=RESULT, help="file to write")
    parser.add_argument("--only", default="", help="beginning of METHOD/SET")
    given = parser.parse_args(arguments)
    try:
        base = open_base(given.mpnet)
        for study in STUDIES:
            if f"{study.method}/{study.data}".startswith(given.only):
                run(study, inside_train(study.data, given.data_root), base, given.out)
    except SoftcueError as error:
        sys.exit(f"base_rates: {error}")


def inside_train(name: str, root: Path) -> Data:
    """Open a set whose rows that train and that are scored are all of its train split."""
    data = open_data(name, data_root=root, limit={"train": LIMIT})
    rows = data.splits["train"]
    return replace(data, splits={"train": rows[:ROWS], "test": rows[ROWS:][:SCORED]})


def run(study: Study, data: Data, base: Base, file: Path) -> None:
    """Train what `file` does not hold yet, packed, and add each run as soon as it has ended."""
    known = list(map(key_of, read_runs(file)))
    missing = [(told, job) for told, job in study.jobs(data) if key_of(told) not in known]
    here = {"precision": base.precision, "commit": machine(OPTIONS)["commit"]}

    def add(number: int, adapter: Adapter) -> None:
        told, score = missing[number][0], float(adapter.scores[data.metric])
        made = {**told, "metric": data.metric, "score": score, **here}
        write_file(file, json.dumps({"runs": [*read_runs(file), made]}, indent=1).encode())
        print(json.dumps(made), flush=True)

    if missing:
        train_jobs([job for _, job in missing], base, finished=add)


def key_of(run: Mapping[str, Any]) -> list[Any]:
    """Return what tells a run from the others."""
    return [run[key] for key in KEYS]


def read_runs(file: Path) -> list[dict[str, Any]]:
    """Read the runs that a file holds; none where there is no file."""
    return list(read_json(file, SoftcueError)["runs"]) if file.exists() else []


if __name__ == "__main__":
    main()
