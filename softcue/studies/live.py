"""A sweep as it goes: best so far, rung, time left - a live table on a terminal, now and then a
line elsewhere.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from softcue.errors import one_line
from softcue.studies.trials import Group, Outcome, Result, SearchObserver, Terms
from softcue.training.job import Prepared
from softcue.training.progress import now_and_then, tell
from softcue.training.run import TrainingRun

SHOWN_POINTS = 5  # best points


class Board(SearchObserver):
    """Holds what the live table shows."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.began = clock, clock()
        self.number, self.count, self.trials = 0, 0, 0
        self.outcomes: list[Outcome] = []  # of this rung
        self.live: dict[int, float] = {}  # share of each run that trains now
        self.metric: dict[str, str] = {}

    def rung(self, number: int, count: int, groups: Sequence[Group], terms: Terms) -> None:
        """Begin a new rung; the table shows its runs alone, for scores of rungs do not compare."""
        self.number, self.count, self.trials = number, count, sum(map(len, groups))
        self.outcomes, self.live = [], {}
        self.metric = {name: data.metric for name, data in terms.data.items()}

    def step(self, prepared: Prepared, run: TrainingRun) -> None:
        """Note that a run went on."""
        self.live[id(run)] = 1.0 if run.done else run.step / run.total

    def result(self, result: Result) -> None:
        """Note that a group is finished."""
        self.outcomes += result.outcomes
        self.live = {}

    @property
    def share(self) -> float:
        """How much of the sweep is done; rungs take about the same time."""
        if not self.trials:
            return 0.0
        done = (len(self.outcomes) + sum(self.live.values())) / self.trials
        return (self.number - 1 + min(1.0, done)) / self.count

    def seconds_left(self) -> float | None:
        """Estimate the seconds left at the speed so far; None before anything is done."""
        return None if not self.share else (self.clock() - self.began) * (1 - self.share) / self.share

    def title(self) -> str:
        """Return the line above the table."""
        left = self.seconds_left()
        rest = "" if left is None else f", about {_time(left)} left"
        return f"rung {self.number} of {self.count}: {len(self.outcomes)} of {self.trials} runs{rest}"

    def best(self) -> Iterator[tuple[str, str, str, str]]:
        """Return data set, point, seed and score of each data set's best runs, the best first."""
        scored = [outcome for outcome in self.outcomes if outcome.score is not None]
        for name in self.metric:
            own = sorted(
                (o for o in scored if o.trial.data == name), key=lambda outcome: -(outcome.score or 0.0)
            )
            for outcome in own[:SHOWN_POINTS]:
                yield (
                    name,
                    str(outcome.trial.point),
                    str(outcome.trial.seed),
                    f"{self.metric[name]} {outcome.score:.4f}",
                )

    def __rich__(self) -> Table:
        table = Table("data", "point", "seed", "score", title=self.title(), title_justify="left")
        for row in self.best():
            table.add_row(*map(one_line, row))
        return table


class Lines(Board):
    """Tells a line now and then: for the logs of sweeps that nobody watches."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self.say, self.due = say, now_and_then(clock)

    def step(self, prepared: Prepared, run: TrainingRun) -> None:
        """Note that a run went on."""
        super().step(prepared, run)
        self.tell()

    def result(self, result: Result) -> None:
        """Note that a group is finished."""
        super().result(result)
        self.tell()

    def tell(self) -> None:
        """Say how it goes, unless that was said just now."""
        if not self.due():
            return
        first: dict[str, str] = {}
        for name, point, _, score in self.best():
            first.setdefault(name, f"; {name}: {score} by {point}")
        self.say(self.title() + "".join(first.values()))


@contextmanager
def sweep_board(quiet: bool = False) -> Iterator[SearchObserver]:
    """Show on standard error how sweep() goes."""
    if quiet:
        yield SearchObserver()
        return
    if not sys.stderr.isatty():
        yield Lines(tell)
        return
    board = Board()
    with Live(
        get_renderable=board.__rich__,
        console=Console(stderr=True, markup=False),
        refresh_per_second=2,
        transient=True,
    ):
        yield board


def _time(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{whole} s"
