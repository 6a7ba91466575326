"""Damaged inputs get an answer or a refusal in words: some of them in every run of the tests,
ten thousand in `make soak`.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak import inputs
from tests.soak.inputs import Case, failures, judge, make

FEW, MANY, AT_ONCE = 120, 10_000, 20


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, FEW, AT_ONCE))
def test_damaged_inputs_are_answered_or_refused(first: int) -> None:
    assert list(failures(range(first, first + AT_ONCE))) == []


@pytest.mark.soak
@pytest.mark.parametrize("first", range(FEW, MANY, AT_ONCE))
def test_ten_thousand_damaged_inputs_are_answered_or_refused(first: int) -> None:
    assert list(failures(range(first, first + AT_ONCE))) == []


def test_a_case_is_the_same_each_time() -> None:
    assert make(17) == make(17) != make(18)


def leak() -> None:
    Path("elsewhere").write_text("x")


def swell() -> None:
    bytearray(4 * 2**30)


FAULTS: dict[str, tuple[Callable[[], object], str]] = {
    "a traceback": (lambda: 1 / 0, "ZeroDivisionError"),
    "another exit code": (lambda: sys.exit(3), "exit 3"),
    "a hang": (lambda: time.sleep(60), "took more than"),
    "a steering character": (lambda: print("\x1b[31m"), "steers the terminal"),
    "a file elsewhere": (leak, "left ['elsewhere']"),
    "an input that is changed": (lambda: Path("rows.csv").write_text(""), "left ['rows.csv']"),
    "too much memory": (swell, "MemoryError"),
    "a crash": (lambda: os.abort(), "exit -6"),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_the_judge_sees_a_planted_fault(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main, reason = FAULTS[fault]
    monkeypatch.setattr(inputs.cli, "main", main)
    monkeypatch.setattr(inputs, "SECONDS", 3)
    (tmp_path / "rows.csv").write_text("text,label\n")
    wrong = judge(Case({}, ["train"]), tmp_path)
    assert wrong is not None and reason in wrong


def test_the_judge_lets_a_refusal_and_an_answer_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for code in (0, 2):
        monkeypatch.setattr(inputs.cli, "main", lambda code=code: sys.exit(code))
        assert judge(Case({}, ["train"]), tmp_path) is None
