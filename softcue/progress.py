"""A progress bar for training, on a terminal only."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from softcue.loop import Run
from softcue.training import Prepared, Report


@contextmanager
def training_bar(quiet: bool = False) -> Iterator[Report]:
    """Gives what train() calls after every step; draws only where standard error is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda prepared, run: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[best]}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bars: dict[int, int] = {}

        def report(prepared: Prepared, run: Run) -> None:
            if id(run) not in bars:
                bars[id(run)] = progress.add_task(f"{prepared.job.method} on {prepared.job.data.name}", total=run.total, best="")
            best = f"best {run.best:.4f}" if run.history else ""
            progress.update(bars[id(run)], completed=run.total if run.done else run.step, best=best)  # type: ignore[arg-type]

        yield report
