"""bfloat16 beside float32: last losses and scores of PASTA, three seeds on three data sets;
quality, not time.
"""

import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.common import Results, read_options
from softcue.base import open_base
from softcue.tasks import data_root, open_data
from softcue.training.job import Job, Prepared
from softcue.training.jobs import train_jobs
from softcue.training.run import TrainingRun

TASKS, SEEDS, ROWS, EPOCHS = ("sst2", "conll04", "stsb"), 3, 1_000, 4
QUICK_ROWS, QUICK_EPOCHS = 64, 1


def measure(task: str, device: str, rows: int, epochs: int) -> list[dict[str, Any]]:
    """A row in float32, and one in bfloat16 that says how far it is from the first."""
    exact, low = (measure_in(precision, task, device, rows, epochs) for precision in ("float32", "bfloat16"))
    for name in ("loss", "score"):
        spread = max(exact[f"{name}, deviation"], low[f"{name}, deviation"])
        # in deviations
        low[f"{name}, from float32"] = (low[name] - exact[name]) / spread if spread else 0.0
    return [exact, low]


def measure_in(precision: str, task: str, device: str, rows: int, epochs: int) -> dict[str, Any]:
    """Mean and deviation over seeds; no early stopping, so that last losses are of one step."""
    data = open_data(task, data_root=data_root(None), limit={"train": rows})
    losses: dict[int, float] = {}

    def note(prepared: Prepared, run: TrainingRun) -> None:
        if run.history:
            losses[prepared.job.seed] = run.history[-1]["loss"]

    training = {"epochs": epochs, "patience": 0}
    adapters = train_jobs(
        [Job(data, "pasta", {}, training, seed) for seed in range(SEEDS)],
        open_base("minilm", precision, device),
        note,
    )
    scores = [adapter.scores[data.metric] for adapter in adapters]
    row: dict[str, Any] = {
        "task": task,
        "precision": precision,
        "rows": rows,
        "epochs": epochs,
        "metric": data.metric,
    }
    for name, values in (("loss", list(losses.values())), ("score", scores)):
        row |= {
            name: statistics.mean(values),
            f"{name}, deviation": statistics.stdev(values),
            f"{name}, by seed": values,
        }
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it; needs SOFTCUE_DATA."""
    options = read_options(__doc__ or "", arguments)
    if data_root(None) is None:
        raise SystemExit(f"set SOFTCUE_DATA to the folder that holds {', '.join(TASKS)}")
    rows, epochs = (QUICK_ROWS, QUICK_EPOCHS) if options.quick else (ROWS, EPOCHS)
    results = Results("precision", options)
    for task in TASKS:
        results.add({"task": task}, partial(measure, task, options.device, rows, epochs))
    results.finish()


if __name__ == "__main__":
    main()
