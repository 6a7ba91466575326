"""Visit: the rows of one call to the service, from their leases to their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from softcue.adapter import Adapter
from softcue.answering.answers import Question, say
from softcue.answering.evaluation import joined_answer, shares_of
from softcue.answering.served import question_of, reading_of
from softcue.bank.entry import Entry
from softcue.errors import AdapterError, RequestError, short
from softcue.kinds import KINDS
from softcue.readers.items import Item
from softcue.serving.hot import HotAdapter, HotAdapters

if TYPE_CHECKING:
    from softcue.serving.service import Service

READ_AT_ONCE = 1_000  # characters of a text that is made into tokens on the spot

Wanted = tuple[Any, Mapping[str, Any]]  # the name of an adapter as it came, and the texts


@dataclass(frozen=True)
class Answer:
    """What one adapter said to one request."""

    entry: Entry
    value: dict[str, Any]  # as Predictor gives it
    choices: tuple[str, ...]  # of the request, if it has any
    tokens: int
    truncated: bool  # whether the text was cut at the adapter's limit


class Visit:
    """The rows of one call, from their leases to their answers."""

    def __init__(self, service: Service, asked: Sequence[Wanted], deadline: float) -> None:
        self.service, self.asked, self.deadline = service, asked, deadline
        self.leases: list[Future[HotAdapter]] = []
        self.held: set[int] = set()  # numbers of the rows whose leases are not given back
        self.made: dict[Any, Question | asyncio.Future[Question]] = {}  # by how it is read

    def lease(self) -> None:
        """Find the adapters and begin to load what is not hot; one name is one version in all rows."""
        found: dict[str, Entry] = {}
        for number, (name, _) in enumerate(self.asked):
            with self._naming(number):
                entry = found.get(name) if isinstance(name, str) else None
                if entry is None:
                    entry = self.service.source.find(name)
                    found[name] = entry
                self.held.add(len(self.leases))
                self.leases.append(self.service.hot.lease(entry))

    def end(self) -> None:
        """Give the leases back; those of what the engine still computes are its own."""
        self._give_back(list(self.held))

    def _give_back(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.held.remove(number)
            lease = self.leases[number]
            if not lease.cancel():
                lease.add_done_callback(self._release)

    def _release(self, lease: Future[HotAdapter]) -> None:
        if lease.exception() is None:
            self.service.hot.release(lease.result())

    async def answer(self, numbers: Sequence[int]) -> list[tuple[int, Answer]]:
        """Answer some rows in one batch as soon as their adapters are hot, and give their leases back.

        A row that waits for its adapter's seat then never waits for this visit's other rows, nor they for it.
        """
        hot, questions = list[HotAdapter](), list[Question]()
        for number in numbers:
            with self._naming(number):
                lease = self.leases[number]
                hot.append(lease.result() if lease.done() else await asyncio.wrap_future(lease))
        reads = [self._read(number, one.adapter) for number, one in zip(numbers, hot, strict=True)]
        for number, one, read in zip(numbers, hot, reads, strict=True):
            with self._naming(number):
                made = read if isinstance(read, Question) else await read
            reading, below = reading_of(one.adapter), one.adapter.unsure_below
            questions.append(replace(made, reading=reading, unsure_below=below))
        tensors = await self._answered(questions, hot)
        self._give_back(numbers)
        return [
            (number, self._said(one, question, tensor))
            for number, one, question, tensor in zip(numbers, hot, questions, tensors, strict=True)
        ]

    def _said(self, one: HotAdapter, question: Question, tensor: Tensor) -> Answer:
        item = question.item
        return Answer(one.entry, say(tensor, question), question.record.choices, item.rows, item.dropped > 0)

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

    def _read(self, number: int, adapter: Adapter) -> Question | asyncio.Future[Question]:
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


def _release(hot: HotAdapters, one: HotAdapter, _: Future[Tensor]) -> None:
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
