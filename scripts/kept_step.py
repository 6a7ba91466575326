"""Tries which step of a run is kept - by the single best score, or the latest near enough to it
- on development sets.

    python -m scripts.kept_step --data-root DATA            # hours; the same command goes on after a kill

Every run goes to its end, and is scored after each epoch on the rows that select and on at most 300 test
rows, which in a development set are free to choose with. Each rule is then applied to the same scores. Writes
a JSON to OUT; `python -m scripts.presets_page` shows it.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.common import machine
from scripts.check_presets import OPTIONS, RESULTS, ROWS
from softcue.answering.evaluation import evaluate_seat
from softcue.base import Base, open_base
from softcue.errors import SoftcueError
from softcue.files import read_json, write_file
from softcue.model import Model
from softcue.readers import Data
from softcue.readers.items import remembering
from softcue.tasks import open_data
from softcue.training.job import Job, Prepared, prepare, seeded
from softcue.training.jobs import open_seats, start
from softcue.training.loop import fit
from softcue.training.run import TrainingRun

TRIED = (  # data set, training rows at most, methods, seeds
    ("sst2", 400, ("pasta", "spt"), 3),
    ("stsb", 400, ("pasta",), 2),
    ("conll04", ROWS, ("spt",), 1),
    ("atis_intent", ROWS, ("pasta",), 2),
)
REPORTED = 300
# tolerance and patience
RULES = {"best": (0.0, 0), "best, patience 8": (0.0, 8), "tolerance 1": (1.0, 8), "tolerance 2": (2.0, 8)}
LAST = "last"
Points = list[tuple[float, float]]  # at each evaluation: on the rows that select, and on the others


def main() -> None:
    """Read the command line, train, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data-root", type=Path, required=True, help="folder with a folder for each data set"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "kept_step.json", help="file to write")
    parser.add_argument(
        "--sets", default=",".join(name for name, *_ in TRIED), help="names with commas between"
    )
    given = parser.parse_args()
    runs: list[dict[str, object]] = read_json(given.out, SoftcueError)["runs"] if given.out.exists() else []
    try:
        base = open_base("minilm")
        for name, rows, methods, seeds in TRIED:
            for method in methods:
                if name not in given.sets.split(",") or any(
                    (run["set"], run["method"]) == (name, method) for run in runs
                ):
                    continue
                began = time.monotonic()
                data = open_data(name, data_root=given.data_root, limit={"train": rows})
                found = study(data, method, range(seeds), base)
                seconds, commit = time.monotonic() - began, machine(OPTIONS)["commit"]
                told = {"set": name, "rows": len(data.splits["train"]), "method": method}
                runs.append({**told, **found, "seconds": seconds, "commit": commit})
                write_file(given.out, json.dumps({"runs": runs}, indent=1).encode())
                print(f"{name} {method}: {found['scores']}, {seconds:.0f} s", flush=True)
    except SoftcueError as error:
        sys.exit(f"kept_step: {error}")


def study(data: Data, method: str, seeds: Sequence[int], base: Base) -> dict[str, object]:
    """Train a run for each seed, packed, and apply every rule to its scores."""
    data = replace(data, splits={**data.splits, "test": data.splits["test"][:REPORTED]})
    read = remembering(base.text)
    group = [
        prepare(Job(data, method, seed=seed, training={"patience": 0}, from_train=True), base, read)
        for seed in seeds
    ]
    with seeded(0):
        seating = open_seats(group, base, len(group))
        model = seating.model
        runs = [start(seating, seat, prepared, base) for seat, prepared in enumerate(group)]
        points: list[Points] = [[] for _ in runs]
        for run, prepared, own in zip(runs, group, points, strict=True):
            run.score = watched(run.score, model, run.seat, prepared, own)
        fit(model, runs)
    scores = {
        rule: [kept(run, own, *told) for run, own in zip(runs, points, strict=True)]
        for rule, told in RULES.items()
    }
    return {
        "metric": data.metric,
        "selection": runs[0].rows,
        "scores": {LAST: [own[-1][1] for own in points], **scores},
        "points": points,
    }


def watched(
    score: Callable[[], float], model: Model, seat: int, prepared: Prepared, points: Points
) -> Callable[[], float]:
    """A run's score, which notes beside it that of the rows that do not select."""
    records, reading, data = prepared.selection.report, prepared.reading, prepared.job.data
    items = prepared.read(records, reading)

    def both() -> float:
        selected = score()
        scores = evaluate_seat(model, seat, items, records, reading, data)
        points.append((selected, float(scores[data.metric])))
        return selected

    return both


def kept(run: TrainingRun, points: Points, tolerance: float, patience: int) -> float:
    """The score, on the rows that do not select, of the step that the rule keeps."""
    rule = replace(
        run,
        training=replace(run.training, tolerance=tolerance, patience=patience),
        highest=float("-inf"),
        stale=0,
    )
    reported = 0.0
    for selected, other in points:
        reported = other if rule.keeps(selected) else reported
        if rule.gives_up():
            break
    return reported


if __name__ == "__main__":
    main()
