"""What the kill tests train, in this process or in one that is killed."""

from pathlib import Path

from softcue.base import open_base
from softcue.training.checkpoint import Checkpoints
from softcue.training.full import train_full
from softcue.training.job import Job
from softcue.training.jobs import train_jobs
from tests.tiny_base import tiny_data

SEATS = 2


def jobs() -> list[Job]:
    """Five jobs of two shapes, with every dropout on: they end at different steps, and seats
    are handed on.
    """
    few, scores = tiny_data("classify", train=20, dev=8, test=8), tiny_data("score", train=16, dev=8, test=8)
    shared = {"batch": 8, "rate": 1e-2, "patience": 2}
    return [
        Job(few, "pasta", {}, {**shared, "epochs": 6}, 0),
        Job(scores, "pasta", {"dropout": 0.3}, {**shared, "epochs": 3}, 1),
        Job(few, "bitfit", {}, {**shared, "epochs": 4}, 2),
        Job(few, "pasta", {}, {**shared, "epochs": 5, "schedule": "constant"}, 3),
        Job(scores, "pasta", {}, {**shared, "epochs": 8}, 4),
    ]


def train_queue(backbone: str, out: str, checkpoints: str | None) -> None:
    """Train the jobs, from the newest checkpoint if there is one, and save their adapters under `out`."""
    kept = None if checkpoints is None else Checkpoints(checkpoints, every=2, resume=True)
    for number, adapter in enumerate(
        train_jobs(jobs(), open_base(backbone, "float32"), seats=SEATS, checkpoints=kept)
    ):
        adapter.save(Path(out) / str(number))


def train_whole(backbone: str, out: str, checkpoints: str | None) -> None:
    """The same with one job of full fine-tuning."""
    kept = None if checkpoints is None else Checkpoints(checkpoints, every=2, resume=True)
    train_full(
        Job(jobs()[0].data, training={"epochs": 5, "batch": 8}),
        open_base(backbone, "float32"),
        checkpoints=kept,
    ).save(out)


CASES = {"queue": train_queue, "full": train_whole}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, hidden ones too."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
