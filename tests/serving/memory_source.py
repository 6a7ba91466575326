"""A Source in memory for the tests of the server, which counts and may delay or fail its loads."""

import hashlib
import threading
import time
from collections import Counter

from softcue.adapter import Adapter
from softcue.bank.entry import Entry, split_name
from softcue.errors import UnknownAdapterError


class MemorySource:
    """Adapters in a dictionary."""

    def __init__(self, **adapters: Adapter) -> None:
        self.versions: dict[str, dict[int, tuple[Entry, Adapter]]] = {}
        self.next: Counter[str] = Counter()
        self.loads: Counter[str] = Counter()  # by full name
        self.delay = 0.0
        self.gate = threading.Event()  # loads wait for it
        self.gate.set()
        for name, adapter in adapters.items():
            self.add(name, adapter)

    @property
    def backbone(self) -> str:
        return next((a.backbone for vs in self.versions.values() for _, a in vs.values()), "")

    @property
    def fingerprint(self) -> str:
        return next((a.fingerprint for vs in self.versions.values() for _, a in vs.values()), "")

    def find(self, asked: str) -> Entry:
        name, which = split_name(asked)
        versions = self.versions.get(name)
        if not versions:
            raise UnknownAdapterError(f"no adapter is called {name!r}")
        if which is None:
            return versions[max(versions)][0]
        for entry, _ in versions.values():
            if which == entry.version or which in entry.aliases:
                return entry
        raise UnknownAdapterError(f"{asked!r} is not there")

    def load(self, entry: Entry) -> Adapter:
        self.gate.wait(20)
        time.sleep(self.delay)
        self.loads[entry.full_name] += 1
        try:
            return self.versions[entry.name][entry.version][1]
        except KeyError:
            raise UnknownAdapterError(f"{entry.full_name} was removed") from None

    def page(self, after: str = "", limit: int = 100, search: str = "") -> list[Entry]:
        names = sorted(name for name in self.versions if name > after and search in name)
        return [self.find(name) for name in names[:limit]]

    def count(self) -> int:
        return len(self.versions)

    def add(self, name: str, adapter: Adapter) -> Entry:
        self.next[name] += 1
        version = self.next[name]
        entry = Entry(
            name,
            version,
            hashlib.sha256(f"{name}@{version}{id(adapter)}".encode()).hexdigest(),
            adapter.method,
            adapter.kind,
            len(adapter.labels),
            0,
            0.0,
        )
        self.versions.setdefault(name, {})[version] = entry, adapter
        return entry

    def alias(self, name: str, alias: str, version: int | None) -> Entry:
        raise NotImplementedError

    def remove(self, asked: str) -> list[Entry]:
        name, _ = split_name(asked)
        return [entry for entry, _ in self.versions.pop(name).values()]
