"""Service: requests in, answers out. It resolves names, holds seats, turns texts into tokens and asks the
engine.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from softcue.answering.answers import Question, ask, say
from softcue.answering.predict import raw_inputs
from softcue.bank.entry import Entry
from softcue.bank.source import Source
from softcue.base import Base
from softcue.errors import ClosingError, DeadlineError, RequestError
from softcue.serving.engine import Engine
from softcue.serving.hot import HotAdapters, Lease

INLINE = 2_000  # characters that are tokenised at once; longer texts go to a thread
READERS = 2  # threads for long texts


@dataclass(frozen=True)
class Answer:
    """What one request is told."""

    entry: Entry  # the version that answered
    value: dict[str, Any]  # as a Predictor gives it
    tokens: int


class Service:
    """Answers requests, each by the adapter that it names, over one encoder."""

    def __init__(
        self,
        base: Base,
        source: Source,
        *,
        memory: int = 2**30,
        budget: int = 4_096,
        delay: float = 0.002,
        room: int = 1_024,
        deadline: float = 30.0,
        pinned: Sequence[str] = (),
    ) -> None:
        """Start the engine.

        memory: bytes of adapters in seats. budget: rows in one forward pass. delay: seconds that a request
        may wait for others. room: requests that may wait. deadline: seconds in which a request is answered.
        pinned: adapters that keep their seats.

        Raises UnknownAdapterError or AdapterError for a pinned adapter that cannot be had.
        """
        self.base, self.source, self.deadline = base, source, deadline
        self.hot = HotAdapters(base, source, memory, pinned)
        self.engine = Engine(self.hot.model, budget, delay, room)
        self.readers = ThreadPoolExecutor(READERS, thread_name_prefix="softcue-reader")
        self.closing, self.under_way = False, 0
        self.idle = asyncio.Event()

    async def answer(self, requests: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """Answer requests, each {"adapter": "spam@prod", "text": ...}; all of them, or raise.

        Raises UnknownAdapterError, RequestError, BusyError, DeadlineError or ClosingError, of the first row
        that is wrong.
        """
        return await self._within([self._one(request, {}) for request in requests])

    async def fan_out(self, adapters: Sequence[str], inputs: Mapping[str, Any]) -> list[Answer]:
        """Answer the same inputs for many adapters; adapters that read alike share its tokens.

        Raises as `answer` does.
        """
        shared: dict[tuple[Any, ...], Question] = {}
        return await self._within([self._one({**inputs, "adapter": name}, shared) for name in adapters])

    async def close(self) -> None:
        """Answer what was accepted, and refuse the rest."""
        self.closing = True
        while self.under_way:
            self.idle.clear()
            await self.idle.wait()
        await asyncio.to_thread(self.engine.close)
        await asyncio.to_thread(self.hot.close)
        self.readers.shutdown()

    def facts(self) -> dict[str, float]:
        """Return the service's numbers; those that end in _total only grow."""
        hot, tallies = self.hot, asdict(self.engine.tallies)
        return {
            **{f"{name}_total": value for name, value in tallies.items()},
            "waiting": len(self.engine.lanes),
            "under_way": self.under_way,
            "hits_total": hot.hits,
            "misses_total": hot.misses,
            "evictions_total": hot.evictions,
            "hot_adapters": len(hot.held),
            "seat_bytes": hot.seating.allocated,
        }

    async def _within(self, parts: Sequence[Any]) -> list[Answer]:
        """Await all parts within the deadline; where one fails the others are cancelled."""
        if self.closing:
            for part in parts:
                part.close()
            raise ClosingError("the server is shutting down; ask another")
        self.under_way += 1
        tasks: list[asyncio.Task[Answer]] = []
        try:
            async with asyncio.timeout(self.deadline):
                if len(parts) == 1:
                    return [await parts[0]]
                tasks = [asyncio.ensure_future(part) for part in parts]
                return list(await asyncio.gather(*tasks))
        except TimeoutError:
            raise DeadlineError(f"not answered within {self.deadline:g} s") from None
        finally:
            for task in tasks:
                task.cancel()
            self.under_way -= 1
            self.idle.set()

    async def _one(self, request: Mapping[str, Any], shared: dict[tuple[Any, ...], Question]) -> Answer:
        """Answer one request; `shared` has the questions that other adapters asked of the same inputs."""
        end = time.monotonic() + self.deadline
        entry = self.source.find(request.get("adapter"))  # type: ignore[arg-type]
        lease = self.hot.lease(entry) or await self._fetched(entry)
        try:
            question = await self._question(request, lease, shared)
            answer = await self.engine.submit(question.item, lease.seat, end)
        finally:
            lease.release()
        return Answer(entry, say(answer, question), question.item.rows)

    async def _fetched(self, entry: Entry) -> Lease:
        """Await a cold adapter; a lease that comes after the request was given up is released."""
        future = self.hot.fetch(entry)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            future.add_done_callback(_release)
            raise

    async def _question(
        self, request: Mapping[str, Any], lease: Lease, shared: dict[tuple[Any, ...], Question]
    ) -> Question:
        key = (lease.reading.kind, lease.reading.limit, lease.pair, lease.task)
        known = shared.get(key)
        if known is not None:  # the same tokens; labels, centre and spread are the adapter's own
            return Question(known.item, known.record, lease.reading, known.text, known.offset)
        if _length(request) <= INLINE:
            question = self._read(request, lease)
        else:
            loop = asyncio.get_running_loop()
            question = await loop.run_in_executor(self.readers, self._read, request, lease)
        return shared.setdefault(key, question)

    def _read(self, request: Mapping[str, Any], lease: Lease) -> Question:
        try:
            return ask(raw_inputs(lease.task, request), lease.reading, lease.pair, self.base.text)
        except RequestError as error:
            raise type(error)(f"adapter '{lease.entry.full_name}': {error}") from error


def _length(request: Mapping[str, Any]) -> int:
    """Return the characters of a request's texts, lists of texts among them."""
    values = [value if isinstance(value, list | tuple) else [value] for value in request.values()]
    return sum(len(one) for value in values for one in value if isinstance(one, str))


def _release(fetched: "Future[Lease]") -> None:
    if not fetched.cancelled() and fetched.exception() is None:
        fetched.result().release()
