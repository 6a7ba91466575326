"""What train tells while it goes: a bar on a terminal, a line a minute elsewhere, nothing where
JSON is asked for.
"""

import io

import pytest
from rich.progress import Progress

from softcue.training.job import Prepared
from softcue.training.jobs import train_jobs
from softcue.training.progress import bars, progress_lines, training_progress
from softcue.training.run import TrainingRun
from tests.tiny_base import tiny_base, tiny_data
from tests.training.training_cases import job


def test_elsewhere_than_on_a_terminal_a_line_a_minute_tells_how_training_goes() -> None:
    now, told, run_of = [0.0], list[str](), list[TrainingRun]()
    report = progress_lines(told.append, lambda: now[0])

    def step(prepared: Prepared, run: TrainingRun) -> None:
        now[0] += 25.0
        report(prepared, run)
        run_of.append(run)

    train_jobs([job(tiny_data(), epochs=3, seed=7, tolerance=0.0)], tiny_base(), step)
    run = run_of[-1]
    assert run.total == len(run_of) == 12
    at_step_4, at_step_8 = ({entry["step"]: entry["score"] for entry in run.history}[step] for step in (4, 8))
    assert told[:3] == [
        "bitfit on tiny-classify, seed 7: step 3 of 12",
        f"bitfit on tiny-classify, seed 7: step 6 of 12, best accuracy {at_step_4:.4f} (selection)",
        f"bitfit on tiny-classify, seed 7: step 9 of 12, best accuracy {max(at_step_4, at_step_8):.4f} "
        "(selection)",
    ]
    assert told[3:] == [
        f"bitfit on tiny-classify, seed 7: step 12 of 12, best accuracy {run.best:.4f} (selection)"
    ]


def test_a_bar_ends_full_also_where_training_stops_early() -> None:
    with Progress() as progress:
        report = bars(progress)
        train_jobs([job(tiny_data(), epochs=20, rate=1e-9, patience=2)], tiny_base(), report)
    (task,) = progress.tasks
    assert (
        task.finished
        and task.description == "bitfit on tiny-classify, seed 0"
        and task.fields["best"].startswith("best 0.")
    )


def test_json_is_not_talked_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softcue.training.progress.PAUSE", 0)
    for quiet in (True, False):
        monkeypatch.setattr("sys.stderr", told := io.StringIO())
        with training_progress(quiet) as report:
            train_jobs([job(tiny_data(), epochs=1)], tiny_base(), report)
        assert bool(told.getvalue()) == (not quiet)
