"""Hot adapters: those in seats. The least recently used make room; threads load beside the forward."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from torch import nn

from softcue.adapter import Adapter
from softcue.answering.seating import Seating, Slab, head_room
from softcue.answering.served import check_served
from softcue.bank.entry import Entry
from softcue.bank.source import Source
from softcue.base import Base
from softcue.errors import AdapterError, ClosingError

LOADERS = 2  # threads that read adapters
LEAST = 8  # a slab grows by an eighth or not at all: each growth copies it
Key = tuple[str, int, str]  # name, version and hash: what replaces an adapter has a seat of its own


@dataclass(eq=False)
class HotAdapter:
    """An adapter in a seat."""

    entry: Entry
    adapter: Adapter  # without its tensors, which are in the seat
    seat: int  # of the model
    slabs: tuple[Slab, Slab]  # of its cue and its head
    leases: int = 0  # requests that are on their way
    pinned: bool = False


class HotAdapters:
    """Adapters in the seats of one model, bounded by the memory that their slabs take.

    A slab grows while all slabs together stay within the bound, to twice its size at most, and by no more
    than half of what is left. Else the least recently used adapter of the slab leaves. A slab without seats
    that finds no room gets it from the largest one, which is halved. The bound holds for what stays: while a
    slab is copied, it is there twice.
    """

    def __init__(self, base: Base, source: Source, memory: int, pinned: Sequence[str] = ()) -> None:
        """Load the pinned adapters, which never leave, by the names that a request would use.

        memory: bytes. Raises UnknownAdapterError, and AdapterError where they do not fit.
        """
        self.base, self.source, self.memory = base, source, memory
        self.seating = Seating(base.backbone.encoder, serves=True)
        self.model = self.seating.model.eval()
        self.hits = self.misses = self.evictions = 0
        self.bytes = 0  # what the slabs take, whether somebody sits there or not
        self._hot: OrderedDict[Key, HotAdapter] = OrderedDict()  # the least recently used first
        self._loading: dict[Key, list[Future[HotAdapter]]] = {}
        self._changed = threading.Condition()  # over all of the above, held for moments
        self._seats = threading.Lock()  # over the seating, held by the one loader that changes it
        self._releases, self._closed = 0, False
        self._loaders = ThreadPoolExecutor(LOADERS, "softcue-loader")
        for name in pinned:
            hot = self.lease(source.find(name)).result()
            hot.pinned = True
            self.release(hot)

    def lease(self, entry: Entry) -> "Future[HotAdapter]":
        """Return the adapter, at once or when it is loaded; it keeps its seat until `release`.

        The future gives UnknownAdapterError or AdapterError where it cannot be loaded.
        """
        key, future = key_of(entry), Future[HotAdapter]()
        with self._changed:
            hot = self._hot.get(key)
            if hot is not None:
                self._hot.move_to_end(key)
                hot.leases += 1
                self.hits += 1
                future.set_result(hot)
                return future
            if self._closed:
                raise ClosingError("the server is shutting down; ask another one, or later")
            self.misses += 1
            waiting = self._loading.setdefault(key, [])
            waiting.append(future)
            if len(waiting) == 1:
                self._loaders.submit(self._load, entry)
        return future

    def keep(self, hot: HotAdapter) -> None:
        """Take one more lease of an adapter that is leased."""
        with self._changed:
            hot.leases += 1

    def release(self, hot: HotAdapter) -> None:
        """Give a lease back."""
        with self._changed:
            hot.leases -= 1
            self._releases += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Load nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._loaders.shutdown(cancel_futures=True)

    @property
    def count(self) -> int:
        """How many adapters are in seats."""
        return len(self._hot)

    def _load(self, entry: Entry) -> None:
        key = key_of(entry)
        try:
            adapter = self.source.load(entry)
            check_served(entry.full_name, adapter, self.base)
            with self._seats:
                self._make_room(adapter)
                seat = self.seating.add(adapter)
                hot = HotAdapter(
                    entry, replace(adapter, cue={}, head={}), seat, self.seating.slabs_of(adapter)
                )
                with self._changed:
                    waiting = self._loading.pop(key)
                    leased = [future for future in waiting if future.set_running_or_notify_cancel()]
                    hot.leases = len(leased)
                    self._hot[key] = hot
        except BaseException as error:
            with self._changed:
                waiting = self._loading.pop(key)
            for future in waiting:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
            return
        for future in leased:
            future.set_result(hot)

    def _make_room(self, adapter: Adapter) -> None:
        """Let the slabs of an adapter have a free seat each."""
        width = next(self.base.backbone.encoder.parameters()).itemsize
        of_cue = sum(tensor.numel() for tensor in adapter.cue.values()) * width
        bias = adapter.head["bias"]
        of_head = 4 * head_room(len(bias)) * (adapter.head["weight"].shape[-1] + 1) + 8
        for part, seat_bytes in enumerate((of_cue, of_head)):
            while True:
                seen, slab = self._releases, self.seating.slabs_of(adapter)[part]
                if slab.free or self._grow(adapter, part, slab, seat_bytes):
                    break
                if self._evict(slab) or self._halve(slab):
                    continue
                self._wait(seen, adapter)

    def _grow(self, adapter: Adapter, part: int, slab: Slab, seat_bytes: int) -> bool:
        left = self.memory - self.bytes
        if slab.size:
            size = slab.size + min(slab.size, left // 2 // max(1, seat_bytes))
            if size - slab.size < max(1, slab.size // LEAST):
                return False
        elif seat_bytes <= left:
            size = 1
        else:
            return False
        if part == 0:
            self.seating.reserve_cue(adapter.method, adapter.config, size)
        else:
            # as wide as any of its sort can be: it never has to be widened beyond the bound
            room = head_room(len(adapter.head["bias"]))
            self.seating.reserve_head(adapter.kind, adapter.pooling, room, size)
        self._count_bytes()
        return True

    def _count_bytes(self) -> None:
        self.bytes = sum(bytes_of(self.seating.module(slab)) for slab in self.seating.slabs if slab.size)

    def _evict(self, slab: Slab) -> bool:
        """Let the least recently used adapter of a slab leave that no request is on."""
        with self._changed:
            for hot in self._hot.values():
                if slab in hot.slabs and not hot.leases and not hot.pinned:
                    self._remove(hot)
                    return True
        return False

    def _halve(self, wanting: Slab) -> bool:
        """Halve the largest slab whose upper seats nobody needs now."""
        if wanting.size:
            return False
        module = self.seating.module
        for slab in sorted(
            (one for one in self.seating.slabs if one.size), key=lambda slab: -bytes_of(module(slab))
        ):
            size = (slab.size + 1) // 2
            if size < slab.size and self._empty(slab, size):
                self.seating.shrink(slab, size)
                self._count_bytes()
                return True
        return False

    def _empty(self, slab: Slab, size: int) -> bool:
        """Let all adapters in a slab's seats from `size` on leave, or none where one has to stay."""
        with self._changed:
            above = [hot for hot in self._hot.values() if self._seat_in(hot, slab) >= size]
            if any(hot.leases or hot.pinned for hot in above):
                return False
            for hot in above:
                self._remove(hot)
        return True

    def _seat_in(self, hot: HotAdapter, slab: Slab) -> int:
        place = self.model.places[hot.seat]
        if hot.slabs[0] is slab:
            return place.cue_seat
        return place.head_seat if hot.slabs[1] is slab else -1

    def _remove(self, hot: HotAdapter) -> None:
        del self._hot[key_of(hot.entry)]
        self.seating.remove(hot.seat)
        self.evictions += 1

    def _wait(self, seen: int, adapter: Adapter) -> None:
        """Wait until a request gives a lease back that was there when `seen` was read."""
        with self._changed:
            if self._releases != seen:
                return
            if not any(hot.leases for hot in self._hot.values()):
                raise AdapterError(
                    f"the adapter of {adapter.task or adapter.method} finds no room in {self.memory:,} bytes "
                    "for adapters, of which none that is pinned leaves; give the server more memory"
                )
            self._changed.wait_for(lambda: self._releases != seen or self._closed)
            if self._closed:
                raise ClosingError("the server is shutting down; ask another one, or later")


def key_of(entry: Entry) -> Key:
    """Return what tells an adapter from all others, and from others of its name."""
    return entry.name, entry.version, entry.sha256


def bytes_of(module: nn.Module) -> int:
    """Return what a module's tensors take."""
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
