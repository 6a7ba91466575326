"""Engine: a queue of questions for any seats, and a thread that answers them in batches."""

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from torch import Tensor

from softcue.answering.evaluation import ROW_BUDGET, run
from softcue.errors import BusyError, ClosingError, DeadlineError
from softcue.model import Model
from softcue.readers.items import Item

LONG = 128  # a question with more rows goes into the lane of long questions
RECENT = 8  # number of batches from which the engine's speed is measured
LONGEST_RETRY = 60.0  # seconds
BATCH_SECONDS = 0.25  # the time that a batch should take, because new questions wait until it ends
FIRST_ROWS = 1_024  # budget of the first batch, before any speed is known
LEAST_ROWS = 256  # smallest budget of a batch: with fewer rows a processor computes fewer rows a second


@dataclass(eq=False)
class Asked:
    """One question in the queue."""

    item: Item
    seat: int
    deadline: float  # on the clock time.monotonic
    rows: int
    arrived: float
    future: "Future[Tensor]"


@dataclass(frozen=True)
class _Done:
    """The time and size of an answered batch."""

    seconds: float
    questions: int
    rows: int


class Engine:
    """Answers questions for any seats of a model; waiting questions share forward passes.

    There are two lanes, one for short and one for long questions, each in the order of arrival. A batch takes
    the oldest questions of both lanes, up to half of its budget from each; if one lane needs less, the other
    may use the rest. The budget is the number of rows that take a quarter of a second, and at most `budget`.
    A question therefore waits only for the questions before it in its own lane.
    """

    def __init__(
        self,
        model: Model,
        budget: int = ROW_BUDGET,
        delay: float = 0.002,
        room: int = 1_024,
        patience: float = math.inf,
    ) -> None:
        """Start the thread.

        budget: the most rows in one forward pass. delay: seconds that a question waits for others to share a
        batch with. room: the most admitted questions that are not answered yet. patience: the most seconds of
        admitted work, at the engine's recent speed. Further questions are refused at once, because they would
        only be refused later, at their deadline.
        """
        self.model, self.budget, self.delay, self.room = model, budget, delay, room
        self.patience = patience
        self.answered = self.rows = self.batches = self.adapters = self.refused = self.late = 0
        self._lanes: tuple[deque[Asked], deque[Asked]] = (deque(), deque())
        self._waiting = 0  # rows in the lanes
        self._inside = 0  # admitted questions that have not left
        self._closing = False
        self._recent: deque[_Done] = deque(maxlen=RECENT)
        # batches after which questions were still waiting: only these show the engine's full speed
        self._full: deque[_Done] = deque(maxlen=RECENT)
        self._changed = threading.Condition()
        self._worker = threading.Thread(target=self._work, name="softcue-engine", daemon=True)
        self._worker.start()

    def enter(self, count: int) -> None:
        """Admit `count` questions; each takes a place until `leave` gives it back.

        Raises BusyError if there is no room for all of them, and ClosingError after `close`.
        """
        with self._changed:
            if self._closing:
                raise ClosingError("the server is shutting down; ask another server, or ask again later")
            room = self._room_now()
            if self._inside + count > room or self._is_late():
                self.refused += count
                raise BusyError(
                    f"{count:,} questions came while {self._inside:,} of {room:,} places are taken; "
                    "ask again later" + (", in shorter lists" if count > room else ""),
                    self._retry_after(max(count, self._inside + count - room)),
                )
            self._inside += count

    def leave(self, count: int) -> None:
        """Give back the places of questions that were answered or given up."""
        with self._changed:
            self._inside -= count
            if self._closing:
                self._changed.notify_all()

    def submit(self, questions: Sequence[tuple[Item, int]], deadline: float) -> "list[Future[Tensor]]":
        """Put admitted questions (item, seat) into the queue, and return the futures of their answers.

        deadline: on the clock time.monotonic. A question is not computed if its future is cancelled before
        its batch begins. After the deadline its future raises DeadlineError.
        """
        now = time.monotonic()
        asked = [Asked(item, seat, deadline, item.rows, now, Future()) for item, seat in questions]
        with self._changed:
            for one in asked:
                self._lanes[one.rows > LONG].append(one)
                self._waiting += one.rows
            self._changed.notify_all()
        return [one.future for one in asked]

    @property
    def inside(self) -> int:
        """The number of admitted questions that are not answered yet."""
        return self._inside

    @property
    def waiting(self) -> int:
        """The number of questions that wait in the lanes."""
        return sum(map(len, self._lanes))

    def close(self) -> None:
        """Refuse new questions, and return when all admitted questions have left."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._worker.join()

    def _room_now(self) -> int:
        """Return the number of places: `room`, or fewer if `patience` has not enough time for them.

        An idle engine has all places. So has an engine without a full batch yet: in small batches each
        question takes longer, so they would give too few places.
        """
        if not self._inside or not self._full or self.patience == math.inf:
            return self.room
        return min(self.room, max(1, int(self.patience / self._seconds_each())))

    def _is_late(self) -> bool:
        """Say whether the oldest question's wait so far and one more batch take longer than `patience`."""
        arrived = [lane[0].arrived for lane in self._lanes if lane]
        batch = self._recent[-1].seconds if self._recent else 0.0
        return bool(arrived) and time.monotonic() - min(arrived) + batch > self.patience

    def _seconds_each(self) -> float:
        """Return the seconds of a question in the last full batches, or in the last ones if none was full."""
        last = self._full or self._recent
        return sum(done.seconds for done in last) / sum(done.questions for done in last)

    def _retry_after(self, over: int) -> float:
        """Return the estimated seconds until `over` questions have left."""
        if not self._recent:
            return 1.0
        return min(LONGEST_RETRY, max(self.delay, min(self._inside, over) * self._seconds_each()))

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or (self._closing and not self._inside))
                if not self._waiting:
                    return
                self._gather()
                batch = self._take()
                full = self._waiting > 0
            if batch:
                self._answer(batch, full)

    def _budget_now(self) -> int:
        """Return the rows that take BATCH_SECONDS at the best recent speed, but at most the budget."""
        if not self._recent:
            return min(self.budget, FIRST_ROWS)
        speed = max(done.rows / done.seconds for done in self._recent)
        return min(self.budget, max(LEAST_ROWS, int(speed * BATCH_SECONDS)))

    def _gather(self) -> None:
        """Wait until the budget is full or the oldest question has waited for `delay`."""
        oldest = min(lane[0].arrived for lane in self._lanes if lane)
        budget = self._budget_now()
        while self._waiting < budget and not self._closing:
            left = oldest + self.delay - time.monotonic()
            if left <= 0:
                break
            self._changed.wait(left)

    def _take(self) -> list[Asked]:
        """Take the next batch out of the lanes, without questions that were cancelled or are too late."""
        now, batch, late, used = time.monotonic(), list[Asked](), list[Asked](), 0
        budget = self._budget_now()
        for rest in (False, True):  # first its oldest and half of the budget for each lane, then the rest
            for lane in self._lanes:
                own = 0
                while lane:
                    first = lane[0]
                    fits = used + first.rows <= budget if rest else own + first.rows <= budget // 2
                    if first.deadline < now:
                        late.append(first)
                    elif not (fits or first.future.cancelled() or (own == 0 and not rest)):
                        break
                    elif first.future.set_running_or_notify_cancel():
                        batch.append(first)
                        used, own = used + first.rows, own + first.rows
                    lane.popleft()
                    self._waiting -= first.rows
        for one in late:
            if one.future.set_running_or_notify_cancel():
                self.late += 1
                one.future.set_exception(DeadlineError("the request's time ended before its turn came"))
        return batch

    def _answer(self, batch: Sequence[Asked], full: bool) -> None:
        began = time.monotonic()
        answers = self._run(batch)
        with self._changed:
            rows = sum(one.rows for one in batch)
            self.batches += 1
            self.answered += len(batch)
            self.rows += rows
            self.adapters += len({one.seat for one in batch})
            done = _Done(time.monotonic() - began, len(batch), rows)
            self._recent.append(done)
            if full:
                self._full.append(done)
        for one, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Tensor):
                one.future.set_result(answer)
            else:
                one.future.set_exception(answer)

    def _run(self, batch: Sequence[Asked]) -> "Sequence[Tensor | Exception]":
        """Answer a batch; if it fails, answer each question alone, so that one does not fail the others."""
        try:
            # twice the budget: it does not count prefix rows, and the batch must not be cut into several
            return run(self.model, [one.item for one in batch], [one.seat for one in batch], 2 * self.budget)
        except Exception as error:
            if len(batch) == 1:
                return [error]
        return [self._run([one])[0] for one in batch]
