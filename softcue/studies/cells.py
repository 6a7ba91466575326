"""Cells of a comparison: one method trained with one seed, kept as a file of its own."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from softcue.adapter import Adapter
from softcue.base import Base
from softcue.errors import RequestError, WriteError
from softcue.files import read_json
from softcue.training.full import METHOD as FULL
from softcue.training.full import Checkpoint, train_full
from softcue.training.job import Job
from softcue.training.jobs import Report, train_jobs

# presets differ in them by method
PRESET = "rate", "head_rate", "warmup", "decay", "clip", "schedule", "backbone_dropout"
OWN = tuple(f"training.{name}" for name in PRESET)


@dataclass(frozen=True)
class Cell:
    """One method trained with one seed."""

    method: str
    seed: int
    scores: Mapping[str, float]
    parameters: int  # trained, the head's left out
    head: int
    kilobytes: float  # of the parameters that the adapter keeps
    seconds: float  # from records to scores
    made_with: Mapping[str, Any]  # all that determines the scores

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"{self.method}-{self.seed}"


def read_cells(folder: Path) -> dict[str, Cell]:
    """Read the finished cells of an earlier run.

    WriteError for a folder that cannot hold any, RequestError for a damaged cell.
    """
    try:
        (folder / "cells").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"--out {folder} cannot be written to ({error.strerror}); expected a new folder or one of an "
            "earlier run"
        ) from error
    cells = {}
    for file in sorted((folder / "cells").glob("*.json")):
        try:
            cells[file.stem] = Cell(**read_json(file, RequestError))
        except (RequestError, TypeError) as error:
            raise RequestError(
                f"{file} is not a finished cell of a comparison; remove it to have it made again"
            ) from error
    return cells


def check_cells(found: Mapping[str, Cell], planned: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Refuse a folder with cells of other conditions.

    Of cells that are not wanted now only what all cells share counts.
    """
    common: dict[str, Any] = {}
    for one in planned.values():
        common |= flat_conditions(one)
    shared = {
        key: value
        for key, value in common.items()
        if not key.startswith("config.") and key not in ("plugin", *OWN)
    }
    wrong: dict[str, str] = {}
    for name, cell in found.items():
        theirs = flat_conditions(cell.made_with)
        if name in planned:
            ours = {**dict.fromkeys(theirs), **flat_conditions(planned[name])}
        else:  # a method that is fitted has no training settings
            ours = {key: value for key, value in shared.items() if key in theirs}
        for key, value in ours.items():
            if theirs.get(key) != value:
                wrong.setdefault(
                    key, f"{key} is {str(theirs.get(key))[:16]} in {name}, {str(value)[:16]} now"
                )
    if wrong:
        raise RequestError(
            f"{folder} holds a comparison made with other settings: {'; '.join(wrong.values())}. Give the "
            "same, or another --out"
        )


def flat_conditions(made_with: Mapping[str, Any]) -> dict[str, Any]:
    """Turn {"config": {"length": 4}} into {"config.length": 4}."""
    pairs: dict[str, Any] = {}
    for key, value in made_with.items():
        pairs |= (
            {f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value}
        )
    return pairs


def run_cell(job: Job, base: Base, made_with: Mapping[str, Any], report: Report) -> Cell:
    """Train and score one cell."""
    began = time.monotonic()
    trained = train_full(job, base, report) if job.method == FULL else train_jobs([job], base, report)[0]
    seconds = time.monotonic() - began
    cue, head = trained_sizes(trained, base)
    scores = {name: float(trained.scores[name]) for name in job.data.metrics}
    return Cell(job.method, job.seed, scores, cue, head, (cue + head) * 4 / 1024, seconds, made_with)


def trained_sizes(trained: Adapter | Checkpoint, base: Base) -> tuple[int, int]:
    """Count the parameters that were trained: those of the cue or of the whole encoder, and of the head."""
    if isinstance(trained, Checkpoint):
        return encoder_size(base), _count(trained.adapter.head)
    return _count(trained.cue), _count(trained.head)


def _count(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def encoder_size(base: Base) -> int:
    """Count the encoder's parameters, its pooler's included."""
    return sum(parameter.numel() for parameter in base.backbone.encoder.parameters())
