"""Hot adapters: those in seats. They come when they are asked for, and leave when others need the room."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from softcue.adapter import Adapter
from softcue.answering.predict import reading_of
from softcue.answering.seating import Seating
from softcue.bank.entry import Entry
from softcue.bank.source import Source
from softcue.base import Base
from softcue.errors import ClosingError
from softcue.readers.items import Reading

Key = tuple[str, int, str]  # name, version and hash: another adapter under an old name has another key


@dataclass(frozen=True)
class Lease:
    """One request's hold on a seat: until it is released nobody else gets the seat."""

    entry: Entry
    reading: Reading
    pair: bool
    task: str
    seat: int
    release: Callable[[], None]


@dataclass
class _Held:
    """An adapter in a seat."""

    adapter: Adapter  # without its numbers, which are in the seat
    reading: Reading
    seat: int
    leases: int = 0
    pinned: bool = False


class HotAdapters:
    """Adapters in the seats of one model, at most `memory` bytes of them.

    Memory counts all seats that are allocated, taken or not. Where it is used up, the adapter that was not
    asked for for the longest time leaves, of those whose seat the new one can take. Every kind of seat has
    room for a few adapters, whatever the memory.

    A thread of its own loads what is cold, beside the forward passes.
    """

    def __init__(self, base: Base, source: Source, memory: int, pinned: Sequence[str] = ()) -> None:
        """Begin with the pinned adapters in seats. Raises UnknownAdapterError, AdapterError."""
        self.base, self.source = base, source
        self.seating = Seating(base.backbone.encoder, serves=True, memory=memory)
        self.model = self.seating.model.eval()
        self.held: OrderedDict[Key, _Held] = OrderedDict()  # the one asked for last comes last
        self.loading: dict[Key, Future[_Held]] = {}
        self.changed = threading.Condition()
        self.loader = ThreadPoolExecutor(1, thread_name_prefix="softcue-loader")
        self.closing = False
        self.hits = self.misses = self.evictions = 0
        for name in pinned:
            self._load(source.find(name)).pinned = True

    def lease(self, entry: Entry) -> Lease | None:
        """Hold the seat of an adapter that is hot, or return None."""
        with self.changed:
            held = self.held.get(_key(entry))
            if held is None:
                return None
            self.hits += 1
            return self._leased(entry, held)

    def fetch(self, entry: Entry) -> "Future[Lease]":
        """Load a cold adapter and hold its seat; whoever asks for it meanwhile waits for the same load.

        The future raises UnknownAdapterError if it was removed in the meantime, AdapterError if it is
        damaged, ClosingError at shutdown.
        """
        return self.loader.submit(self._fetch, entry)

    def _fetch(self, entry: Entry) -> Lease:
        with self.changed:
            held = self.held.get(_key(entry))  # loaded by a request in front of this one
            if held is not None:
                self.hits += 1
                return self._leased(entry, held)
            self.misses += 1
        self._load(entry)
        with self.changed:
            return self._leased(entry, self.held[_key(entry)])

    def _load(self, entry: Entry) -> _Held:
        """Read an adapter and seat it, where need be in the place of others."""
        adapter = self.source.load(entry)
        adapter.check(entry.name, self.base.backbone.name, self.base.fingerprint, self.model.encoder.dims)
        with self.changed:
            while not self.seating.has_room(adapter):
                if not self._evict(adapter):
                    self.changed.wait()  # all seats are leased: the next that is released may do
                if self.closing:
                    raise ClosingError("the server is shutting down")
            seat = self.seating.add(adapter)
            held = self.held[_key(entry)] = _Held(adapter.without_numbers(), reading_of(adapter), seat)
            return held

    def _evict(self, adapter: Adapter) -> bool:
        """Free the seat of the least recently used adapter that helps; False where there is none."""
        for key, held in self.held.items():
            if not held.leases and not held.pinned and self.seating.frees_room(held.seat, adapter):
                del self.held[key]
                self.seating.remove(held.seat)
                self.evictions += 1
                return True
        return False

    def _leased(self, entry: Entry, held: _Held) -> Lease:
        held.leases += 1
        self.held.move_to_end(_key(entry))

        def release() -> None:
            with self.changed:
                held.leases -= 1
                if not held.leases:
                    self.changed.notify_all()

        return Lease(entry, held.reading, held.adapter.pair, held.adapter.task, held.seat, release)

    def close(self) -> None:
        """Load nothing more."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        self.loader.shutdown(cancel_futures=True)


def _key(entry: Entry) -> Key:
    return entry.name, entry.version, entry.sha256
