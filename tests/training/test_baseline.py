"""Training says when a linear head does as well, and is no other for it."""

from typing import Any

import pytest

from softcue import api
from softcue.errors import RequestError
from softcue.training import baseline
from softcue.training.job import Job
from softcue.training.jobs import train_jobs
from tests.tiny_base import tiny_base, tiny_data
from tests.training.training_cases import same

BARELY = {"epochs": 1, "batch": 16, "rate": 1e-9}


def told(method: str, **changes: Any) -> list[str]:
    lines: list[str] = []
    arguments = {"backbone": tiny_base(), "method": method, "settings": BARELY, **changes}
    api.train(tiny_data(), say=lines.append, **arguments)
    return [line for line in lines if line.startswith("note: ")]


@pytest.mark.parametrize("method", ["pasta", "full"])
def test_a_linear_head_that_does_as_well_is_told_of_in_one_line(method: str) -> None:
    (line,) = told(method)
    assert line.startswith("note: a linear head on the frozen encoder is as good on dev (accuracy 0.")
    assert f", {method} 0." in line and line.endswith("; --method probe takes seconds")


def test_a_training_that_did_better_and_a_probe_itself_hear_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told("probe", settings={}) == []
    lines: list[str] = []
    baseline.say_of_linear(Job(tiny_data(), "pasta"), tiny_base(), 1.01, lines.append)
    assert lines == []
    baseline.say_of_linear(Job(tiny_data(), "pasta", from_train=True), tiny_base(), 0.0, lines.append)
    assert "on a tenth of train" in lines[0]


def test_the_note_changes_no_number_and_is_not_made_where_nobody_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments: dict[str, Any] = {"backbone": tiny_base(), "method": "pasta", "settings": BARELY}
    listened = api.train(tiny_data(), say=lambda line: None, **arguments)
    monkeypatch.setattr("softcue.api.say_of_linear", None)
    quiet = api.train(tiny_data(), **arguments)
    assert same(listened, quiet) and listened.scores == quiet.scores
    train_jobs([Job(tiny_data(), "pasta", training=BARELY)], tiny_base())


def test_features_that_take_too_much_memory_leave_the_note_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any) -> None:
        raise RequestError("too many")

    monkeypatch.setattr(baseline, "fit_head", refuse)
    assert told("pasta") == []
