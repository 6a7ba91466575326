"""What saving would refuse is refused before the first step, whoever trains."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from softcue import api
from softcue.errors import SoftcueError
from softcue.readers import Data
from softcue.readers.records import Record
from softcue.studies.compare import compare
from softcue.studies.sweep import sweep
from softcue.studies.trials import SearchObserver
from softcue.training.job import Job, Prepared
from softcue.training.jobs import train_jobs
from softcue.training.run import TrainingRun
from tests.tiny_base import tiny_base, tiny_data

QUICK: dict[str, Any] = {"grid": {"rate": [1e-2]}, "settings": {"epochs": 1}}


class Counting(SearchObserver):
    def __init__(self) -> None:
        self.steps = 0

    def step(self, prepared: Prepared, run: TrainingRun) -> None:
        self.steps += 1


def labelled(labels: tuple[str, ...]) -> Data:
    data = tiny_data()
    rename = dict(zip(data.labels, labels, strict=True))
    splits = {
        split: [replace(record, label=rename[str(record.label)]) for record in rows]
        for split, rows in data.splits.items()
    }
    return replace(data, labels=labels, splits=splits)


def scores_of(size: float) -> Data:
    data = tiny_data("score")
    splits = {
        split: [replace(r, label=float(r.label or 0) * size) for r in rows]
        for split, rows in data.splits.items()
    }
    return replace(data, splits=splits)


BAD: dict[str, tuple[Callable[[], Data], str]] = {
    "labels longer than a header holds": (
        lambda: labelled(("a" * 1_500_000, "b" * 1_500_000, "c" * 1_500_000)),
        "header would hold",
    ),
    "labels that leave no room for scores": (
        lambda: labelled(("a" * 1_397_300, "b" * 1_397_300, "c" * 1_397_300)),
        "bytes left for scores; expected 4,096: shorten the labels",
    ),
    "a control character in the name": (
        lambda: replace(tiny_data(), name="desk\x1b[31m"),
        "task is .*expected no control characters",
    ),
    "scores without a finite spread": (lambda: scores_of(1e200), "their standard deviation is not a"),
    "half a character": (lambda: replace(tiny_data(), name="desk\ud800"), "half a character"),
}
TRAINERS: dict[str, Callable[[Data, Path, Any], Any]] = {
    "train": lambda data, out, report: api.train(data, backbone=tiny_base(), method="pasta", report=report),
    "full": lambda data, out, report: api.train(data, backbone=tiny_base(), method="full", report=report),
    "jobs": lambda data, out, report: train_jobs(
        [Job(tiny_data(), "bitfit"), Job(data, "pasta")], tiny_base(), report
    ),
    "compare": lambda data, out, report: compare(
        data, ["pasta"], out, seeds=1, backbone=tiny_base(), report=report
    ),
    "sweep": lambda data, out, report: sweep([data], ["pasta"], out, backbone=tiny_base()),
}


@pytest.mark.parametrize("trainer", sorted(TRAINERS))
@pytest.mark.parametrize("fault", sorted(BAD))
def test_it_is_refused_before_the_first_step(fault: str, trainer: str, tmp_path: Path) -> None:
    made, reason = BAD[fault]
    steps: list[int] = []
    with pytest.raises(SoftcueError, match=reason):
        TRAINERS[trainer](made(), tmp_path / "out", lambda prepared, run: steps.append(run.step))
    assert not steps
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("fault", sorted(BAD))
def test_a_sweep_refuses_the_data_of_a_later_group_before_its_first_step(fault: str, tmp_path: Path) -> None:
    """Nine seeds of two data sets are more than share a loop."""
    made, reason = BAD[fault]
    watch = Counting()
    with pytest.raises(SoftcueError, match=reason):
        sweep(
            [replace(tiny_data(), name="sound"), made()],
            ["bitfit"],
            tmp_path,
            seeds=9,
            backbone=tiny_base(),
            watch=watch,
            **QUICK,
        )
    assert not watch.steps
    assert not list(tmp_path.rglob("*.safetensors"))


def test_too_many_labels_are_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "wide.jsonl"
    file.write_text("".join(json.dumps({"text": "an owl", "label": f"l{i}"}) + "\n" for i in range(140_000)))
    began = time.monotonic()
    with pytest.raises(SoftcueError, match=r"has .* labels; expected at most 100,000"):
        api.train(file, backbone=tiny_base(), method="bitfit")
    assert time.monotonic() - began < 20


def test_many_labels_are_numbered_once_for_all_rows() -> None:
    """Numbering them anew for every row would take a minute."""
    count = 20_000
    rows = [Record(text="owl", label=f"l{i}", where=f"f:{i}") for i in range(count)]
    data = replace(
        tiny_data(),
        labels=tuple(f"l{i}" for i in range(count)),
        splits={"train": rows, "dev": rows[:5], "test": rows[:5]},
    )
    began = time.monotonic()
    items = api.make_items(data.splits["train"], tiny_base().text, api.Reading("classify", data.labels, 16))
    assert time.monotonic() - began < 15
    assert items[-1].targets == (count - 1,)
