"""Engine: one queue, and a thread that answers what waits in batches of any mix of adapters."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from softcue.answering.evaluation import run
from softcue.errors import BusyError, ClosingError, DeadlineError
from softcue.model import Model
from softcue.readers.items import Item

SHORT_ROWS = 128  # rows of a text that does not wait behind long ones
RECENT = 0.2  # weight of the last batch in the rate that Retry-After goes by


@dataclass(eq=False)
class Work:
    """One item that waits for its answer."""

    item: Item
    seat: int
    deadline: float  # by time.monotonic
    future: asyncio.Future[Tensor]


@dataclass
class Tallies:
    """What an engine has done."""

    batches: int = 0
    rows: int = 0
    answered: int = 0
    adapters: int = 0  # distinct ones, summed over batches
    refused: int = 0
    late: int = 0
    failed: int = 0


@dataclass
class _Lanes:
    """What waits, short items apart from long ones, each in the order of arrival."""

    short: deque[Work] = field(default_factory=deque)
    long: deque[Work] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self.short) + len(self.long)

    @property
    def rows(self) -> int:
        """Rows of all that waits."""
        return sum(work.item.rows for lane in (self.short, self.long) for work in lane)

    def add(self, work: Work) -> None:
        """Let an item wait."""
        (self.short if work.item.rows <= SHORT_ROWS else self.long).append(work)

    def take(self, budget: int) -> list[Work]:
        """Take the next batch: half the budget belongs to each lane, and what one leaves to the other."""
        taken: list[Work] = []
        left = budget
        for lane, share in ((self.long, budget // 2), (self.short, budget), (self.long, budget)):
            room = min(share, left)
            while lane and (lane[0].item.rows <= room or (not taken and lane is not self.long)):
                work = lane.popleft()
                taken.append(work)
                room -= work.item.rows
                left -= work.item.rows
        if not taken and self.long:  # longer than the budget: alone
            taken.append(self.long.popleft())
        return taken


class Engine:
    """Answers items by the seats that they name."""

    def __init__(self, model: Model, budget: int, delay: float, room: int) -> None:
        """Start the thread.

        budget: rows in one forward pass. delay: seconds that the first item of a quiet time waits for others.
        room: items that may wait.
        """
        self.model, self.budget, self.delay, self.room = model, budget, delay, room
        self.lanes, self.changed, self.tallies = _Lanes(), threading.Condition(), Tallies()
        self.closing, self.rows_per_second = False, 1_000.0
        self.thread = threading.Thread(target=self._work, name="softcue-engine", daemon=True)
        self.thread.start()

    def submit(self, item: Item, seat: int, deadline: float) -> asyncio.Future[Tensor]:
        """Queue an item, and return the future of its answer in the running loop.

        Who cancels the future frees its place. Raises BusyError where the queue is full, ClosingError.
        """
        work = Work(item, seat, deadline, asyncio.get_running_loop().create_future())
        with self.changed:
            if self.closing:
                raise ClosingError("the server is shutting down; ask another")
            if len(self.lanes) >= self.room:
                self._forget_cancelled()
            if len(self.lanes) >= self.room:
                self.tallies.refused += 1
                wait = max(1.0, self.lanes.rows / self.rows_per_second)
                raise BusyError(
                    f"{len(self.lanes):,} requests wait already, as many as the queue holds; come again in "
                    f"{wait:.0f} s",
                    wait,
                )
            self.lanes.add(work)
            self.changed.notify()
        return work.future

    def close(self) -> None:
        """Answer what waits, take nothing more, and end the thread."""
        with self.changed:
            self.closing = True
            self.changed.notify()
        self.thread.join()

    def _forget_cancelled(self) -> None:
        for lane in (self.lanes.short, self.lanes.long):
            kept = [work for work in lane if not work.future.cancelled()]
            lane.clear()
            lane.extend(kept)

    def _work(self) -> None:
        while batch := self._next():
            began = time.monotonic()
            wanted = [work for work in batch if not work.future.cancelled()]
            late = [work for work in wanted if work.deadline < began]
            due = [work for work in wanted if work.deadline >= began]
            answers = self._answers(due)
            rows = sum(work.item.rows for work in due)
            seconds = time.monotonic() - began
            if rows:
                self.rows_per_second += RECENT * (rows / max(seconds, 1e-6) - self.rows_per_second)
                self.tallies.batches += 1
                self.tallies.rows += rows
                self.tallies.adapters += len({work.seat for work in due})
            self.tallies.late += len(late)
            error = DeadlineError("not answered in time; the server has more to do than it can")
            _tell([*zip(due, answers, strict=True), *((work, error) for work in late)])

    def _next(self) -> list[Work]:
        """Wait for work and return the next batch; an empty one when the engine is closed."""
        with self.changed:
            if not self.lanes:
                while not self.lanes and not self.closing:
                    self.changed.wait()
                end = time.monotonic() + self.delay
                while not self.closing and self.lanes.rows < self.budget:
                    left = end - time.monotonic()
                    if left <= 0 or not self.changed.wait(left):
                        break
            return self.lanes.take(self.budget)

    def _answers(self, works: Sequence[Work]) -> list[Tensor | Exception]:
        """Answer items in one forward pass; where it fails, one by one, so that it is one that fails."""
        if not works:
            return []
        try:
            answers = run(self.model, [w.item for w in works], [w.seat for w in works], self.budget)
        except Exception as error:
            if len(works) == 1:
                self.tallies.failed += 1
                return [error]
            return [one for work in works for one in self._answers([work])]
        self.tallies.answered += len(works)
        return list(answers)


def _tell(told: Sequence[tuple[Work, Tensor | Exception]]) -> None:
    """Hand answers to the loops that wait for them, all of a loop's at a time."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Work, Tensor | Exception]]] = {}
    for work, found in told:
        by_loop.setdefault(work.future.get_loop(), []).append((work, found))
    for loop, own in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, own)
        except RuntimeError:  # the loop is closed: nobody waits
            continue


def _settle(told: Sequence[tuple[Work, Tensor | Exception]]) -> None:
    for work, found in told:
        if work.future.done():
            continue
        if isinstance(found, Exception):
            work.future.set_exception(found)
        else:
            work.future.set_result(found)
