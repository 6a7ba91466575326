"""Service: requests that name adapters in, answers out; what the routes call."""

import asyncio
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from torch import Tensor

from softcue.adapter import Adapter
from softcue.answering.answers import Question, say
from softcue.answering.evaluation import ROW_BUDGET, joined_answer, shares_of
from softcue.answering.predict import check_requests
from softcue.answering.served import check_served, question_of, reading_of
from softcue.bank.entry import Entry
from softcue.bank.source import Source
from softcue.base import Base
from softcue.errors import AdapterError, DeadlineError, RequestError, short
from softcue.kinds import KINDS
from softcue.readers.items import Item
from softcue.serving.engine import Engine
from softcue.serving.hot import HotAdapter, HotAdapters

_T = TypeVar("_T")
SHARE_OF_DEADLINE = 0.5  # of the deadline: the work that waits at most, as quick as the engine was of late
READERS = 2  # threads that make long texts into tokens
READ_AT_ONCE = 1_000  # characters of a text that is made into tokens on the spot


Wanted = tuple[Any, Mapping[str, Any]]  # the name of an adapter as it came, and the texts


@dataclass(frozen=True)
class Answer:
    """What one adapter said to one request."""

    entry: Entry
    value: dict[str, Any]  # as Predictor gives it
    tokens: int
    truncated: bool  # whether the text was cut at the adapter's limit


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
        """Answer the rows whose adapters are hot together, and each other one when its adapter has come."""
        visit = _Visit(self, asked, deadline)
        try:
            visit.lease()
            hot = [number for number, lease in enumerate(visit.leases) if lease.done()]
            cold = [number for number, lease in enumerate(visit.leases) if not lease.done()]
            groups = [visit.answer(group) for group in (hot, *([number] for number in cold)) if group]
            parts = [await groups[0]] if len(groups) == 1 else await _gathered(groups)
        finally:
            visit.end()
        by_number = {number: answer for part in parts for number, answer in part}
        return [by_number[number] for number in range(len(asked))]


class _Visit:
    """The rows of one call, from their leases to their answers."""

    def __init__(self, service: Service, asked: Sequence[Wanted], deadline: float) -> None:
        self.service, self.asked, self.deadline = service, asked, deadline
        self.leases: list[Future[HotAdapter]] = []
        self.made: dict[Any, Question | asyncio.Future[Question]] = {}  # by how it is read

    def lease(self) -> None:
        """Find the adapters and begin to load what is not hot."""
        for number, (name, _) in enumerate(self.asked):
            with self._naming(number):
                self.leases.append(self.service.hot.lease(self.service.source.find(name)))

    def end(self) -> None:
        """Give the leases back; those of what the engine still computes are its own."""
        for lease in self.leases:
            if not lease.cancel():
                lease.add_done_callback(self._give_back)

    def _give_back(self, lease: "Future[HotAdapter]") -> None:
        if lease.exception() is None:
            self.service.hot.release(lease.result())

    async def answer(self, numbers: Sequence[int]) -> list[tuple[int, Answer]]:
        """Answer some rows in one batch as soon as their adapters are hot."""
        hot, questions = list[HotAdapter](), list[Question]()
        for number in numbers:
            with self._naming(number):
                lease = self.leases[number]
                hot.append(lease.result() if lease.done() else await asyncio.wrap_future(lease))
        reading = [self._read(number, one.adapter) for number, one in zip(numbers, hot, strict=True)]
        for number, one, read in zip(numbers, hot, reading, strict=True):
            with self._naming(number):
                made = read if isinstance(read, Question) else await read
            questions.append(replace(made, reading=reading_of(one.adapter)))
        tensors = await self._answered(questions, hot)
        return [
            (number, self._said(one, question, tensor))
            for number, one, question, tensor in zip(numbers, hot, questions, tensors, strict=True)
        ]

    def _said(self, one: HotAdapter, question: Question, tensor: Tensor) -> Answer:
        item = question.item
        return Answer(one.entry, say(tensor, question), item.rows, item.dropped > 0)

    async def _answered(self, questions: Sequence[Question], hot: Sequence[HotAdapter]) -> list[Tensor]:
        """Have questions answered: at once, or share by share where a text is long.

        So one huge text holds up no other.
        """
        items = {id(question.item): question.item for question in questions}
        cut = {key: shares_of(item, self.service.share) for key, item in items.items()}
        shares = [cut[id(question.item)] for question in questions]
        parts: list[list[Tensor]] = [[] for _ in questions]
        for turn in range(max(map(len, shares))):
            there = [at for at, own in enumerate(shares) if turn < len(own)]
            tensors = await self._submitted([(shares[at][turn], hot[at]) for at in there])
            for at, tensor in zip(there, tensors, strict=True):
                parts[at].append(tensor)
        return [
            own[0] if len(own) == 1 else joined_answer(own, question.item)
            for own, question in zip(parts, questions, strict=True)
        ]

    async def _submitted(self, asked: Sequence[tuple[Item, HotAdapter]]) -> list[Tensor]:
        """Put items into the engine's queue together, and return their answers."""
        futures = self.service.engine.submit([(item, one.seat) for item, one in asked], self.deadline)
        for (_, one), future in zip(asked, futures, strict=True):
            self.service.hot.keep(one)
            future.add_done_callback(partial(_release, self.service.hot, one))
        try:
            return [await asyncio.wrap_future(future) for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def _read(self, number: int, adapter: Adapter) -> "Question | asyncio.Future[Question]":
        """Make a row into a question: at once, or a long text in a thread."""
        inputs = self.asked[number][1]
        key = id(inputs), *_manner(adapter)
        if key not in self.made:
            with self._naming(number):
                if _size(inputs) <= READ_AT_ONCE:
                    self.made[key] = question_of(inputs, adapter, self.service.base.text)
                else:
                    self.made[key] = asyncio.get_running_loop().run_in_executor(
                        self.service.readers, question_of, inputs, adapter, self.service.base.text
                    )
        return self.made[key]

    @contextmanager
    def _naming(self, number: int) -> Iterator[None]:
        """Let an error say which of several rows it is about."""
        try:
            yield
        except (RequestError, AdapterError) as error:
            if len(self.asked) == 1:
                raise
            name = self.asked[number][0]
            raise type(error)(f"request {number} (adapter {short(name)}): {error}") from error


def _release(hot: HotAdapters, one: HotAdapter, _: "Future[Tensor]") -> None:
    hot.release(one)


def _manner(adapter: Adapter) -> tuple[Any, ...]:
    """Return what adapters that turn a text into the same item have in common."""
    kind = KINDS[adapter.kind].reads
    return kind, adapter.pair, adapter.limit, adapter.task, tuple(adapter.columns.items())


def _size(inputs: Mapping[str, Any]) -> int:
    """Count the characters of all texts of a request."""
    size = 0
    for value in inputs.values():
        parts = value if isinstance(value, list | tuple) else (value,)
        size += sum(len(part) for part in parts if isinstance(part, str))
    return size


async def _gathered(groups: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Return all results; where one fails, its error, when no other runs any more."""
    tasks = [asyncio.ensure_future(group) for group in groups]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
