"""The progress of a sweep: a live table on a terminal, a line now and then elsewhere.

Both show the best runs so far, the rung, and the time left.
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

SHOWN_POINTS = 5  # of each data set, the best


class Board(SearchObserver):
    """What the live table shows."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.began = clock()
        self.number = 0  # of this rung
        self.count = 0  # of rungs
        self.trials = 0  # of this rung
        self.outcomes: list[Outcome] = []  # of this rung
        self.live: dict[int, float] = {}  # how much is done of each run that trains now
        self.metric: dict[str, str] = {}

    def rung(self, number: int, count: int, groups: Sequence[Group], terms: Terms) -> None:
        """Begin a rung; the table shows its runs only, for scores of different rungs do not compare."""
        self.number = number
        self.count = count
        self.trials = sum(map(len, groups))
        self.outcomes = []
        self.live = {}
        self.metric = {name: data.metric for name, data in terms.data.items()}

    def step(self, prepared: Prepared, run: TrainingRun) -> None:
        """Note that a run has made a step."""
        self.live[id(run)] = 1.0 if run.done else run.step / run.total

    def result(self, result: Result) -> None:
        """Note that a group is finished."""
        self.outcomes += result.outcomes
        self.live = {}

    @property
    def share(self) -> float:
        """How much of the sweep is done, from 0 to 1; rungs take about the same time."""
        if not self.trials:
            return 0.0
        done = (len(self.outcomes) + sum(self.live.values())) / self.trials
        return (self.number - 1 + min(1.0, done)) / self.count

    def seconds_left(self) -> float | None:
        """Estimate the seconds left from the speed so far, or return None before anything is done."""
        if not self.share:
            return None
        return (self.clock() - self.began) * (1 - self.share) / self.share

    def title(self) -> str:
        """Return the line above the table."""
        left = self.seconds_left()
        rest = "" if left is None else f", about {_time(left)} left"
        return f"rung {self.number} of {self.count}: {len(self.outcomes)} of {self.trials} runs{rest}"

    def best(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield data set, point, seed and score of each data set's best runs, the best first."""
        scored = [outcome for outcome in self.outcomes if outcome.score is not None]
        for name in self.metric:
            own = [outcome for outcome in scored if outcome.trial.data == name]
            own.sort(key=lambda outcome: -(outcome.score or 0.0))
            for outcome in own[:SHOWN_POINTS]:
                trial = outcome.trial
                yield name, str(trial.point), str(trial.seed), f"{self.metric[name]} {outcome.score:.4f}"

    def __rich__(self) -> Table:
        table = Table("data", "point", "seed", "score", title=self.title(), title_justify="left")
        for row in self.best():
            table.add_row(*map(one_line, row))
        return table


class Lines(Board):
    """A board that says a line now and then, for the logs of sweeps that nobody watches."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self.say = say
        self.due = now_and_then(clock)

    def step(self, prepared: Prepared, run: TrainingRun) -> None:
        """Note that a run has made a step."""
        super().step(prepared, run)
        self.tell()

    def result(self, result: Result) -> None:
        """Note that a group is finished."""
        super().result(result)
        self.tell()

    def tell(self) -> None:
        """Say how the sweep goes, unless the last line is recent."""
        if not self.due():
            return
        first: dict[str, str] = {}
        for name, point, _, score in self.best():
            first.setdefault(name, f"; {name}: {score} by {point}")
        self.say(self.title() + "".join(first.values()))


@contextmanager
def sweep_board(quiet: bool = False) -> Iterator[SearchObserver]:
    """Yield the observer that shows a sweep's progress on standard error."""
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
    hours = whole // 3600
    minutes = whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{whole} s"
