"""Seating: adapters in the seats of one model's cues and heads, where they come and go while it
answers or trains.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from softcue.adapter import Adapter, lift, seat_in
from softcue.base import Base
from softcue.cues import Cue
from softcue.encoder.core import Encoder
from softcue.heads import Head
from softcue.model import VACANT, Assignment, Model

HeadSort = tuple[str, str, int]  # kind, pooling, and the room for classes; 0: for as many as come
SMALLEST = 8  # seats that every slab may have, whatever the memory
ROOM_STEP = 4  # from one room for classes to the next
WIDEST = 4  # bytes of a number


@dataclass
class Slab:
    """The seats of one cue or one head, whose tensors have them on axis 0."""

    number: int  # of the cue or head in the model
    size: int = 0
    seat_bytes: int = 0
    free: list[int] = field(default_factory=list)  # seats that nobody has, the next one last

    @property
    def taken(self) -> int:
        """How many seats somebody has."""
        return self.size - len(self.free)

    def grow(self, size: int) -> None:
        """Count seats up to `size`; the new ones are free."""
        self.free = [*range(size - 1, self.size - 1, -1), *self.free]
        self.size = size

    def take(self, seat: int | None) -> int:
        """Take a free seat, or the one that is asked for."""
        if seat is None:
            return self.free.pop()
        self.free.remove(seat)
        return seat


class Seating:
    """One cue for each method and shape, one head for each kind and pooling, and a seat in both by adapter.

    A slab that is full grows to twice its size, so that the thousandth adapter is added in the time of the
    tenth; nothing else of the others is touched. A forward pass in another thread goes on with the smaller.
    """

    def __init__(
        self, encoder: Encoder, dropout: float = 0.1, serves: bool = False, memory: int | None = None
    ) -> None:
        """Begin with no adapters.

        dropout: the heads', in training. serves: numbers are held in the encoder's precision, and nothing is
        trained. memory: bytes of seats, beyond which a slab grows only to SMALLEST; None: no bound.
        """
        self.model = Model(encoder, [], [], [])
        self.dropout, self.serves, self.memory = dropout, serves, memory
        self.cues: dict[Any, Slab] = {}  # by method and shape
        self.heads: dict[HeadSort, Slab] = {}
        self.configs: dict[Assignment, Any] = {}  # of who sits there
        self.vacant: list[int] = []  # seats of the model that were given up

    def reserve_cue(self, method: str, config: Any, size: int) -> Slab:
        """Give the cue of a method and shape at least `size` seats.

        Adapters that have seats keep their numbers and settings.
        """
        slab = self.cues.setdefault(shape_of(method, config), Slab(len(self.model.mixture.cues)))
        if slab.size < size:
            # its first numbers are nobody's, and the caller's generator stays as it is
            with torch.random.fork_rng(devices=[]):
                cue = Cue.registry[method](self.model.encoder.dims, config, size)
            if slab.size:
                _copy(self.model.mixture.cue(slab.number), cue)
            self._put(self.model.mixture.cues, slab.number, cue)
            for place, own in self.configs.items():
                if place.cue == slab.number:
                    cue.configure(place.cue_seat, own)
            slab.grow(size)
            slab.seat_bytes = _bytes(cue) // size
        return slab

    def reserve_head(self, kind: str, pooling: str, classes: int, size: int) -> Slab:
        """Give the head of a kind and pooling at least `size` seats, and room for so many classes."""
        sort = self._sort(kind, pooling, classes)
        slab = self.heads.setdefault(sort, Slab(len(self.model.heads)))
        room = self.model.head(slab.number).bias.shape[1] if slab.size else 0
        if slab.size < size or room < classes:
            size, room = max(slab.size, size), max(room, classes, sort[2])
            with torch.random.fork_rng(devices=[]):
                head = Head.registry[kind](
                    self.model.encoder.dims.hidden, [room] * size, pooling, self.dropout
                )
            if slab.size:
                _copy(self.model.head(slab.number), head)
                head.classes[: slab.size] = self.model.head(slab.number).classes
            self._put(self.model.heads, slab.number, head)
            slab.grow(size)
            slab.seat_bytes = _bytes(head) // size
        return slab

    def add(self, adapter: Adapter) -> int:
        """Seat an adapter, and return the number of its seat.

        Raises AdapterError, with nothing changed for others, where it does not fit.
        """
        place = self._find(adapter)
        seat = self.vacant.pop() if self.vacant else len(self.model.places)
        self.model.seat(seat, place)
        return seat

    def add_all(self, adapters: Sequence[Adapter]) -> list[int]:
        """Seat many adapters; each slab grows once for all of them."""
        cues = Counter(shape_of(one.method, one.config) for one in adapters)
        heads = Counter(self._sort_of(one) for one in adapters)
        classes: dict[HeadSort, int] = {}  # the most of each head
        for one in adapters:
            sort = self._sort_of(one)
            classes[sort] = max(classes.get(sort, 1), len(one.head["bias"]))
        for one in adapters:
            shape, sort = shape_of(one.method, one.config), self._sort_of(one)
            self.reserve_cue(one.method, one.config, self.cues.get(shape, Slab(0)).taken + cues[shape])
            taken = self.heads.get(sort, Slab(0)).taken
            self.reserve_head(one.kind, one.pooling, classes[sort], taken + heads[sort])
        return [self.add(one) for one in adapters]

    @property
    def allocated(self) -> int:
        """Bytes of all seats, taken or not."""
        return sum(slab.size * slab.seat_bytes for slab in (*self.cues.values(), *self.heads.values()))

    def has_room(self, adapter: Adapter) -> bool:
        """Say whether an adapter can be added within the memory."""
        return not any(self._full(adapter))

    def frees_room(self, seat: int, adapter: Adapter) -> bool:
        """Say whether another adapter could take the seat of a cue or head that it lacks from this seat."""
        place, (no_cue, no_head) = self.model.places[seat], self._full(adapter)
        cue, head = self._slabs(adapter)
        return (no_cue and place.cue == cue.number) or (no_head and place.head == head.number)

    def replace(self, seat: int, adapter: Adapter) -> None:
        """Let another adapter answer from this seat; the one before answers until it is there."""
        place, before = self._find(adapter), self.model.places[seat]
        self.model.seat(seat, place)
        self._free(before)

    def remove(self, seat: int) -> None:
        """Free a seat for the adapter that is added next."""
        self._free(self.model.places[seat])
        self.model.seat(seat, VACANT)
        self.vacant.append(seat)

    def take(self, seat: int, adapter: Adapter) -> None:
        """Seat a job that trains in the same seat of its cue and its head, for the optimiser goes by seat.

        Of whoever sat there before nothing is left, in any head: a NaN there would spread.
        """
        if seat < len(self.model.places) and self.model.places[seat] != VACANT:
            self._free(self.model.places[seat])
        with torch.no_grad():
            for parameter in self.model.tuned():
                parameter[seat] = 0
        self.model.seat(seat, self._find(adapter, seat))

    def lift(self, seat: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Copy a seat's numbers: (cue, head), float32 on the CPU."""
        return lift_seat(self.model, seat)

    def _find(self, adapter: Adapter, seat: int | None = None) -> Assignment:
        """Return an assignment that holds the adapter's numbers."""
        cue, head = self._slabs(adapter)
        classes = len(adapter.head["bias"])
        size = cue.size if cue.free else self._grown(cue, adapter.cue)
        cue = self.reserve_cue(adapter.method, adapter.config, max(1, size))
        size = head.size if head.free else self._grown(head, adapter.head)
        head = self.reserve_head(adapter.kind, adapter.pooling, classes, max(1, size))
        place = Assignment(cue.number, cue.take(seat), head.number, head.take(seat))
        try:
            seat_in(
                self.model.mixture.cue(place.cue),
                place.cue_seat,
                self.model.head(place.head),
                place.head_seat,
                adapter,
            )
        except BaseException:
            self._free(place)
            raise
        self.configs[place] = adapter.config
        return place

    def _slabs(self, adapter: Adapter) -> tuple[Slab, Slab]:
        """Return the slabs of an adapter's cue and head, empty ones where there are none yet."""
        cue = self.cues.get(shape_of(adapter.method, adapter.config))
        return cue or Slab(-1), self.heads.get(self._sort_of(adapter)) or Slab(-1)

    def _full(self, adapter: Adapter) -> tuple[bool, bool]:
        """Say whether the cue's seats, and the head's, are all taken and memory allows no more."""
        cue, head = self._slabs(adapter)
        parts = (cue, adapter.cue), (head, adapter.head)
        of_cue, of_head = (not slab.free and self._grown(slab, own) <= slab.size for slab, own in parts)
        return of_cue, of_head

    def _grown(self, slab: Slab, numbers: Mapping[str, Tensor]) -> int:
        """Return the size that a full slab grows to: twice its own, or what the memory allows."""
        wanted = 2 * slab.size or 1
        if self.memory is None:
            return wanted
        seat = slab.seat_bytes or sum(tensor.numel() for tensor in numbers.values()) * WIDEST
        affordable = slab.size + max(0, self.memory - self.allocated) // max(1, seat)
        return max(min(max(wanted, SMALLEST), affordable), SMALLEST, slab.size)

    def _sort_of(self, adapter: Adapter) -> HeadSort:
        return self._sort(adapter.kind, adapter.pooling, len(adapter.head["bias"]))

    def _sort(self, kind: str, pooling: str, classes: int) -> HeadSort:
        """Return what heads that share a slab have in common.

        Of a server's, the room for classes, a power of four: one head of 150 labels would make all others as
        large.
        """
        room = 1
        while self.serves and room < classes:
            room *= ROOM_STEP
        return kind, pooling, room if self.serves else 0

    def _free(self, place: Assignment) -> None:
        self.configs.pop(place, None)
        for slabs, number, seat in (
            (self.cues, place.cue, place.cue_seat),
            (self.heads, place.head, place.head_seat),
        ):
            next(slab for slab in slabs.values() if slab.number == number).free.append(seat)

    def _put(self, modules: nn.ModuleList, number: int, module: nn.Module) -> None:
        """Put a larger cue or head in the place of the smaller."""
        module.to(self.model.device).train(self.model.training)
        if number < len(modules):
            modules[number] = module
        else:
            modules.append(module)
        if self.serves:
            self.model.serve()


@torch.no_grad()
def _copy(small: nn.Module, large: nn.Module) -> None:
    """Copy the numbers of all seats and classes into a module with more of them."""
    own = large.state_dict()
    for name, tensor in small.state_dict().items():
        own[name][tuple(slice(length) for length in tensor.shape)].copy_(tensor)


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())


@lru_cache(maxsize=4_096)  # a server asks for it whenever an adapter is seated
def shape_of(method: str, config: Any) -> tuple[str, Any]:
    """Return what adapters that share a cue have in common."""
    return method, Cue.registry[method].shape(config)


def lift_seat(model: Model, seat: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copy the numbers of a model's seat: (cue, head), float32 on the CPU."""
    place = model.places[seat]
    return lift(model.mixture.cue(place.cue), place.cue_seat, model.head(place.head), place.head_seat)


def seat_adapters(base: Base, adapters: Sequence[Adapter]) -> Model:
    """Return a model that answers with seat i for adapter i."""
    seating = Seating(base.backbone.encoder, serves=True)
    seating.model.eval()
    seating.add_all(adapters)
    return seating.model
