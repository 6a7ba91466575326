"""Service: requests that name adapters in, answers out; what the routes call."""

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from softcue.adapter import Adapter
from softcue.answering.evaluation import ROW_BUDGET
from softcue.answering.predict import check_requests
from softcue.answering.served import check_served
from softcue.bank.source import Source
from softcue.base import Base
from softcue.errors import DeadlineError, RequestError, UnknownAdapterError, short
from softcue.serving.engine import Engine
from softcue.serving.hot import HotAdapters
from softcue.serving.visit import Answer as Answer
from softcue.serving.visit import Visit, Wanted

_T = TypeVar("_T")
SHARE_OF_DEADLINE = 0.5  # of the deadline: the work that waits at most, as quick as the engine was of late
READ_TRIES = 5  # to find an adapter that is replaced while it is read
READERS = 2  # threads that make long texts into tokens


class Service:
    """Answers requests for any adapters of a source, from one asyncio loop."""

    def __init__(
        self,
        base: Base,
        source: Source,
        *,
        memory: int = 2**30,
        budget: int = ROW_BUDGET,
        delay: float = 0.002,
        room: int = 1_024,
        deadline: float = 30.0,
        pinned: Sequence[str] = (),
    ) -> None:
        """Start the threads.

        memory: bytes for adapters in seats. budget: rows in one forward. delay: seconds that a request waits
        for company. room: rows that are let in before they are answered, fewer where they would
        wait longer than half the deadline. deadline: seconds for each request.
        pinned: names of adapters that always have a seat.
        """
        self.base, self.source, self.deadline = base, source, deadline
        self.hot = HotAdapters(base, source, memory, pinned)
        self.engine = Engine(self.hot.model, budget, delay, room, SHARE_OF_DEADLINE * deadline)
        self.share = max(1, budget // 4)  # rows of one long text that wait in the queue together
        self.readers = ThreadPoolExecutor(READERS, "softcue-reader")
        self._late = 0  # requests whose time was over

    async def answer(self, requests: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """Answer requests, each by the adapter that it names; all of them, or an error that names the row.

        Raises UnknownAdapterError, RequestError, AdapterError, BusyError, DeadlineError or ClosingError.
        """
        check_requests(requests)
        for number, request in enumerate(requests):
            if not isinstance(request, Mapping):
                raise RequestError(f"request {number} is {short(request)}; expected an object with adapter")
        return await self._within([(request.get("adapter"), request) for request in requests])

    async def fan_out(self, adapters: Sequence[str], inputs: Mapping[str, Any]) -> list[Answer]:
        """Answer one text by several adapters, in their order; those that read it alike share its tokens.

        Raises what `answer` does.
        """
        return await self._within([(adapter, inputs) for adapter in adapters])

    def check(self, name: str, adapter: Adapter) -> None:
        """Refuse an adapter that the loaded encoder cannot serve. Raises AdapterError."""
        check_served(name, adapter, self.base)

    async def close(self) -> None:
        """Answer what was let in, and refuse the rest."""
        await asyncio.to_thread(self.engine.close)
        await asyncio.to_thread(self.hot.close)
        self.readers.shutdown()

    def facts(self) -> dict[str, float]:
        """Return what has happened since the start, and what is now, as numbers."""
        engine, hot = self.engine, self.hot
        return {
            "inside": engine.inside,
            "queue": engine.waiting,
            "requests": engine.answered,
            "rows": engine.rows,
            "batches": engine.batches,
            "batch_rows": engine.rows / max(1, engine.batches),
            "batch_adapters": engine.adapters / max(1, engine.batches),
            "refused": engine.refused,
            "late": engine.late + self._late,
            "hits": hot.hits,
            "misses": hot.misses,
            "evictions": hot.evictions,
            "seats": hot.count,
            "bytes": hot.bytes,
            "memory": hot.memory,
        }

    async def _within(self, asked: Sequence[Wanted]) -> list[Answer]:
        """Answer within the deadline and the engine's room."""
        if not asked:
            return []
        deadline = time.monotonic() + self.deadline
        self.engine.enter(len(asked))
        try:
            async with asyncio.timeout(self.deadline):
                return await self._answered(asked, deadline)
        except TimeoutError:
            self._late += len(asked)
            raise DeadlineError(
                f"the request was not answered within {self.deadline:g} seconds; ask again later"
            ) from None
        finally:
            self.engine.leave(len(asked))

    async def _answered(self, asked: Sequence[Wanted], deadline: float) -> list[Answer]:
        """Answer rows; where a version was removed before it was read, by what its name stands for then."""
        for left in reversed(range(READ_TRIES)):
            visit = Visit(self, asked, deadline)
            try:
                visit.lease()
                return await self._visited(visit)
            except UnknownAdapterError:
                if not left or len(visit.leases) < len(asked):  # it was not there to begin with
                    raise
            finally:
                visit.end()
        raise AssertionError("the last try returns or raises")

    async def _visited(self, visit: Visit) -> list[Answer]:
        """Answer the rows whose adapters are hot together, and each other one when its adapter has come."""
        done = [lease.done() for lease in visit.leases]  # asked once, for it changes meanwhile
        hot = [number for number, there in enumerate(done) if there]
        cold = [number for number, there in enumerate(done) if not there]
        groups = [visit.answer(group) for group in (hot, *([number] for number in cold)) if group]
        parts = [await groups[0]] if len(groups) == 1 else await _gathered(groups)
        by_number = {number: answer for part in parts for number, answer in part}
        return [by_number[number] for number in range(len(visit.asked))]


async def _gathered(groups: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Return all results; where one fails, its error, when no other runs any more."""
    tasks = [asyncio.ensure_future(group) for group in groups]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
