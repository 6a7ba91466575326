"""What the tests of the server share: a source in memory, and services over a tiny encoder."""

import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch

from softcue.adapter import Adapter
from softcue.bank.entry import Entry, split_name
from softcue.base import Base
from softcue.errors import UnknownAdapterError
from softcue.serving.service import Service
from tests.answering.test_predict import random_adapter
from tests.tiny_base import tiny_base

T = TypeVar("T")


class MemorySource:
    """A source of adapters that lie in memory; `seconds` makes each load slow."""

    def __init__(self, adapters: Mapping[str, Adapter], seconds: float = 0.0) -> None:
        self.versions: dict[str, dict[int, Adapter]] = {}
        self.aliases: dict[tuple[str, str], int] = {}
        self.seconds, self.loads, self.lock = seconds, 0, threading.Lock()
        for name, adapter in adapters.items():
            self.add(name, adapter)

    @property
    def backbone(self) -> str:
        return next((one.backbone for own in self.versions.values() for one in own.values()), "")

    @property
    def fingerprint(self) -> str:
        return next((one.fingerprint for own in self.versions.values() for one in own.values()), "")

    def find(self, asked: str) -> Entry:
        name, which = split_name(asked)
        with self.lock:
            own = self.versions.get(name, {})
            version = (
                self.aliases.get((name, which), 0) if isinstance(which, str) else which or max(own, default=0)
            )
            if version not in own:
                raise UnknownAdapterError(f"adapter {asked!r} is not there")
            return self._entry(name, version, own[version])

    def load(self, entry: Entry) -> Adapter:
        if self.seconds:
            time.sleep(self.seconds)
        with self.lock:
            self.loads += 1
            if entry.version not in self.versions.get(entry.name, {}):
                raise UnknownAdapterError(f"adapter {entry.full_name} is not there any more")
            return self.versions[entry.name][entry.version]

    def page(self, after: str = "", limit: int = 100, search: str = "") -> list[Entry]:
        with self.lock:
            names = sorted(
                name for name, own in self.versions.items() if own and name > after and search in name
            )
        return [self.find(name) for name in names[:limit]]

    def count(self) -> int:
        return sum(bool(own) for own in self.versions.values())

    def add(self, name: str, adapter: Adapter) -> Entry:
        with self.lock:
            own = self.versions.setdefault(name, {})
            version = max(own, default=0) + 1
            own[version] = adapter
            return self._entry(name, version, adapter)

    def alias(self, name: str, alias: str, version: int | None) -> Entry:
        entry = self.find(name if version is None else f"{name}@{version}")
        if version is None:
            self.aliases.pop((name, alias), None)
        else:
            self.aliases[name, alias] = version
        return entry

    def remove(self, asked: str) -> list[Entry]:
        name, which = split_name(asked)
        entry = self.find(asked)
        with self.lock:
            own = self.versions[name]
            gone = list(own) if which is None else [entry.version]
            return [self._entry(name, version, own.pop(version)) for version in gone]

    @staticmethod
    def _entry(name: str, version: int, adapter: Adapter) -> Entry:
        labels = len(adapter.labels)
        return Entry(name, version, f"{id(adapter):064x}", adapter.method, adapter.kind, labels, 1_000, 0.0)


def named_adapter(base: Base, name: str, method: str = "pasta", seed: int = 0) -> Adapter:
    """An adapter that answers its own name, whatever the text."""
    adapter = random_adapter(base, method, seed=seed)
    bias = torch.tensor([50.0, 0.0, 0.0])
    labels = (name, *adapter.labels[1:])
    return replace(adapter, labels=labels, head={**adapter.head, "bias": bias})


@asynccontextmanager
async def serving(source: Any, **how: Any) -> AsyncIterator[Service]:
    """A service over the tiny encoder."""
    service = Service(tiny_base(), source, **how)
    try:
        yield service
    finally:
        await service.close()
