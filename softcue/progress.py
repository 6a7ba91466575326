"""A progress bar for training, on a terminal only."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from softcue.job import Prepared
from softcue.loop import Run
from softcue.training import Report


@contextmanager
def training_bar(quiet: bool = False) -> Iterator[Report]:
    """Gives what train() calls after every step; draws only where standard error is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda prepared, run: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[best]}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bars: dict[tuple[str, str, int, int], TaskID] = {}

        def report(prepared: Prepared, run: Run) -> None:
            job = prepared.job
            key = job.method, job.data.name, job.seed, run.seat
            if key not in bars:
                bars[key] = progress.add_task(f"{job.method} on {job.data.name}, seed {job.seed}", total=run.total, best="")
            best = f"best {run.best:.4f}" if run.history else ""
            progress.update(bars[key], completed=run.total if run.done else run.step, best=best)

        yield report
