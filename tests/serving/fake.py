"""Stand-ins of the service and of a source of adapters, for what HTTP does with them."""

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from httpx import Response
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from softcue.adapter import Adapter
from softcue.answering.predict import Predictor
from softcue.answering.served import check_served
from softcue.bank.entry import Entry, check_name, split_name
from softcue.bank.source import Source
from softcue.errors import ClosingError, UnknownAdapterError
from softcue.serving.app import make_app
from softcue.serving.body import Limits
from tests.answering.test_predict import random_adapter
from tests.tiny_base import tiny_base

KINDS = {"spam": "classify", "rate": "score", "pick": "choice", "ner": "tag"}


class MemorySource:
    """Adapters in a dictionary."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[int, tuple[Entry, Adapter]]] = {}
        self.last: dict[str, int] = {}

    backbone, fingerprint = "tiny", tiny_base().fingerprint

    def find(self, asked: str) -> Entry:
        name, version = split_name(asked)
        versions = self.stored.get(name, {})
        for number in sorted(versions, reverse=True):
            entry = versions[number][0]
            if version in (None, number) or version in entry.aliases:
                return entry
        raise UnknownAdapterError(f"no adapter {asked!r}")

    def load(self, entry: Entry) -> Adapter:
        return self.stored[entry.name][entry.version][1]

    def page(self, after: str = "", limit: int = 100, search: str = "") -> list[Entry]:
        names = [name for name in sorted(self.stored) if name > after and search in name]
        return [self.find(name) for name in names[:limit]]

    def count(self) -> int:
        return len(self.stored)

    def add(self, name: str, adapter: Adapter) -> Entry:
        check_name(name)
        base = tiny_base()
        adapter.check(name, "tiny", base.fingerprint, base.backbone.encoder.dims)
        version = self.last[name] = self.last.get(name, 0) + 1
        digest = hashlib.sha256(f"{name} {version}".encode()).hexdigest()
        entry = Entry(
            name, version, digest, adapter.method, adapter.kind, len(adapter.labels), 1_000, time.time()
        )
        self.stored.setdefault(name, {})[version] = (entry, adapter)
        return entry

    def alias(self, name: str, alias: str, version: int | None) -> Entry:
        entry = self.find(f"{name}@{alias if version is None else version}")
        for number, (own, adapter) in self.stored[name].items():
            aliases = tuple(one for one in own.aliases if one != alias)
            self.stored[name][number] = replace(own, aliases=aliases), adapter
        if version is not None:
            own, adapter = self.stored[name][version]
            entry = replace(own, aliases=(*own.aliases, alias))
            self.stored[name][version] = entry, adapter
        return entry

    def remove(self, asked: str) -> list[Entry]:
        entry = self.find(asked)
        if "@" not in asked:
            return [own for own, _ in self.stored.pop(entry.name).values()]
        versions = self.stored[entry.name]
        del versions[entry.version]
        if not versions:
            del self.stored[entry.name]
        return [entry]


@dataclass(frozen=True)
class FakeAnswer:
    """What the service gives for one request."""

    entry: Entry
    value: dict[str, Any]
    choices: tuple[str, ...]
    tokens: int
    truncated: bool = False


class FakeService:
    """A Predictor behind the service's interface; `fault` is raised instead of an answer."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.predictor = Predictor(tiny_base(), {})
        self.fault: Exception | None = None
        self.pause = 0.0
        self.one_at_a_time = threading.Lock()  # a Predictor is no server
        self.cancelled = 0
        self.closed = False

    async def answer(self, requests: Sequence[Mapping[str, Any]]) -> list[FakeAnswer]:
        if self.fault is not None:
            raise self.fault
        if self.closed:
            raise ClosingError("the server is shutting down")
        try:
            await asyncio.sleep(self.pause)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await asyncio.to_thread(self._answers, requests)

    def _answers(self, requests: Sequence[Mapping[str, Any]]) -> list[FakeAnswer]:
        with self.one_at_a_time:
            return self._answers_now(requests)

    def _answers_now(self, requests: Sequence[Mapping[str, Any]]) -> list[FakeAnswer]:
        entries = [self.source.find(request["adapter"]) for request in requests]
        for entry in entries:
            if entry.full_name not in self.predictor.adapters:
                self.predictor.add(entry.full_name, self.source.load(entry))
        named = [
            {**request, "adapter": entry.full_name} for request, entry in zip(requests, entries, strict=True)
        ]
        return [
            FakeAnswer(entry, value, question.record.choices, 7)
            for entry, (question, value) in zip(entries, self.predictor.answered(named), strict=True)
        ]

    async def fan_out(self, adapters: Sequence[str], inputs: Mapping[str, Any]) -> list[FakeAnswer]:
        return await self.answer([{**inputs, "adapter": name} for name in adapters])

    async def close(self) -> None:
        self.closed = True

    def check(self, name: str, adapter: Adapter) -> None:
        check_served(name, adapter, self.predictor.base)

    def facts(self) -> dict[str, Any]:
        return {"queue_rows": 0, "misses": len(self.predictor.adapters)}


def filled_source() -> MemorySource:
    """A source with one adapter of each kind, and one that reads pairs."""
    source, base = MemorySource(), tiny_base()
    for name, kind in KINDS.items():
        source.add(name, random_adapter(base, "pasta", kind, seed=len(name)))
    source.add("pair", random_adapter(base, "stp", pair=True))
    return source


@pytest.fixture(name="source")
def make_source() -> MemorySource:
    """A source of the test's own."""
    return filled_source()


@pytest.fixture(name="service")
def make_service(source: MemorySource) -> FakeService:
    """A service of the test's own."""
    return FakeService(source)


@pytest.fixture(name="client")
def make_client(service: FakeService, source: MemorySource) -> Iterator[TestClient]:
    """A client of an open server with small limits."""
    limits = Limits(payload=200_000, rows=16, upload=300_000, seconds=2.0)
    with client_of(make_app(service, source, limits=limits)) as client:
        yield client


def client_of(app: ASGIApp) -> TestClient:
    """A client that is told of our own faults as others are: by a status."""
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def fault_of(response: Response, status: int) -> str:
    """The message of a refusal, which must have that status and the shape of all refusals."""
    assert response.status_code == status, response.text
    body = response.json()
    assert sorted(body) == ["error", "error_type"]
    assert body["error"]
    assert "Traceback" not in body["error"]
    assert response.headers["x-request-id"]
    return str(body["error"])
