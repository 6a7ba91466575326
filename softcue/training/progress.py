"""The progress of training, on standard error: a bar on a terminal, otherwise a line from time to time."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from softcue.errors import one_line
from softcue.training.job import Prepared
from softcue.training.jobs import Report
from softcue.training.run import TrainingRun

PAUSE = 60  # seconds between lines


@contextmanager
def training_progress(quiet: bool = False) -> Iterator[Report]:
    """Yield the report function that train() calls after every step."""
    if quiet:
        yield lambda prepared, run: None
    elif sys.stderr.isatty():
        name = TextColumn("{task.description}", markup=False)
        best = TextColumn("{task.fields[best]}", markup=False)
        columns = name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), best
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            yield bars(progress)
    else:
        yield progress_lines(tell)


def tell(line: str) -> None:
    """Print a line for the log of a run.

    It is written at once, because the run may be killed.
    """
    print(one_line(line), file=sys.stderr, flush=True)


def bars(progress: Progress) -> Report:
    """Return a report that draws a bar for each run."""
    drawn: dict[tuple[str, str, int, int], TaskID] = {}

    def report(prepared: Prepared, run: TrainingRun) -> None:
        job = prepared.job
        key = job.method, job.data.name, job.seed, run.seat
        if key not in drawn:
            drawn[key] = progress.add_task(_name(prepared), total=run.total, best="")
        best = f"best {run.best:.4f}" if run.history else ""
        progress.update(drawn[key], completed=run.total if run.done else run.step, best=best)

    return report


def progress_lines(say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> Report:
    """Return a report that prints the progress of the run that made the last step.

    It prints at most once in PAUSE seconds.
    """
    due = now_and_then(clock)

    def report(prepared: Prepared, run: TrainingRun) -> None:
        if not due():
            return
        best = f", best {prepared.job.data.metric} {run.best:.4f} (selection)" if run.history else ""
        say(f"{_name(prepared)}: step {run.step:,} of {run.total:,}{best}")

    return report


def now_and_then(clock: Callable[[], float]) -> Callable[[], bool]:
    """Return a function that says whether a line is due.

    The first line is due PAUSE seconds after this call, and each other one PAUSE seconds after the last.
    """
    last = clock()

    def due() -> bool:
        nonlocal last
        if clock() - last < PAUSE:
            return False
        last = clock()
        return True

    return due


def _name(prepared: Prepared) -> str:
    return one_line(f"{prepared.job.method} on {prepared.job.data.name}, seed {prepared.job.seed}")
