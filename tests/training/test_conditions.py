"""Conditions: runs that can end differently are told apart."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from softcue.errors import RequestError
from softcue.readers.splits import Selection
from softcue.training.checkpoint import Checkpoints
from softcue.training.conditions import identity
from softcue.training.job import Job
from softcue.training.jobs import train_jobs
from tests.tiny_base import tiny_base, tiny_data

DATA = tiny_data("classify", train=12, dev=6, test=6)
ROWS = Selection(
    DATA.splits["train"][:8], DATA.splits["train"][8:], DATA.splits["test"], "selected on four rows"
)


def chosen(selection: Selection | None) -> Job:
    return Job(DATA, "bitfit", training={"epochs": 2, "batch": 4}, selection=selection)


def identify(selection: Selection | None) -> dict[str, Any]:
    return identity([chosen(selection)], tiny_base())[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: None,
        lambda rows: replace(rows, train=rows.train[1:]),
        lambda rows: replace(rows, train=rows.train[::-1]),  # the seed draws places in the list
        lambda rows: replace(rows, select=rows.select[:2]),
        lambda rows: replace(rows, train=rows.select, select=rows.train),
        lambda rows: replace(rows, report=[]),
        lambda rows: replace(rows, report=[replace(rows.report[0], label="iron"), *rows.report[1:]]),
        lambda rows: replace(rows, measured="selected on some rows"),
    ],
)
def test_jobs_over_other_chosen_rows_differ_in_their_selection_alone(
    change: Callable[[Selection], Selection | None],
) -> None:
    ours, theirs = identify(ROWS), identify(change(ROWS))
    assert [name for name in ours if ours[name] != theirs[name]] == ["selection"]


def test_equal_rows_are_equal_whoever_chose_them_and_no_choice_is_none() -> None:
    again = replace(ROWS, train=[replace(record) for record in ROWS.train])
    assert identity([chosen(ROWS), chosen(again), chosen(None)], tiny_base()) == [
        identify(ROWS),
        identify(ROWS),
        identify(None),
    ]
    assert identify(None)["selection"] is None


def test_a_checkpoint_of_a_run_over_other_rows_is_refused(tmp_path: Path) -> None:
    train_jobs([chosen(ROWS)], tiny_base(), checkpoints=Checkpoints(tmp_path, every=1))
    other = replace(ROWS, train=ROWS.train[1:])
    with pytest.raises(
        RequestError,
        match=r"checkpoint of another run: jobs.0.selection was \w{16} and is \w{16}. Give the same settings",
    ):
        train_jobs([chosen(other)], tiny_base(), checkpoints=Checkpoints(tmp_path, every=1, resume=True))
    assert (
        len(train_jobs([chosen(ROWS)], tiny_base(), checkpoints=Checkpoints(tmp_path, every=1, resume=True)))
        == 1
    )
