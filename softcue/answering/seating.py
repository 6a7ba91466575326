"""Seating: adapters in the seats of one model's cues and heads, where they come and go while it
answers or trains.
"""

from collections import Counter
from collections.abc import Sequence
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

HEAD_ROOMS = (1, 4, 16)  # rows of the smallest heads that serve; beyond them the powers of two


@dataclass(eq=False)
class Slab:
    """The seats of one cue or one head, whose tensors have them on axis 0."""

    number: int  # of the cue or head in the model
    config: Any = None  # of a cue: settings of its shape
    size: int = 0
    free: list[int] = field(default_factory=list)  # seats that nobody has, the next one last

    @property
    def taken(self) -> int:
        """How many seats somebody has."""
        return self.size - len(self.free)

    def resize(self, size: int) -> None:
        """Count seats up to `size`; the new ones are free."""
        self.free = [*range(size - 1, self.size - 1, -1), *(seat for seat in self.free if seat < size)]
        self.size = size

    def take(self, seat: int | None) -> int:
        """Take a free seat, or the one that is asked for."""
        if seat is None:
            return self.free.pop()
        self.free.remove(seat)
        return seat


# Kind and pooling of a head, and the rows of its bucket: heads that serve stand together by their number of
# classes, or one adapter with 150 labels would make 150 rows of every other. 0 in training.
Sort = tuple[str, str, int]


class Seating:
    """One cue for each method and shape, one head for each kind and pooling, and a seat in both by adapter.

    A slab that is full grows to twice its size, so that the thousandth adapter is added in the time of the
    tenth; nothing else of the others is touched. One thread at a time may seat adapters; a forward may run
    beside it in another: seats that it reads stay as they are, and a slab that was copied to a larger one
    takes its place only when it is whole.
    """

    def __init__(self, encoder: Encoder, dropout: float = 0.1, serves: bool = False) -> None:
        """Begin with no adapters.

        dropout: the heads', in training. serves: parameters are held in the encoder's precision, and nothing
        is trained.
        """
        self.model = Model(encoder, [], [], [])
        self.dropout, self.serves = dropout, serves
        self.cues: dict[Any, Slab] = {}  # by method and shape
        self.heads: dict[Sort, Slab] = {}
        self.configs: dict[Assignment, Any] = {}  # of who sits there
        self.vacant: list[int] = []  # seats of the model that were given up

    def reserve_cue(self, method: str, config: Any, size: int) -> Slab:
        """Give the cue of a method and shape at least `size` seats.

        Adapters that have seats keep their parameters and settings.
        """
        slab = self.cues.setdefault(shape_of(method, config), Slab(len(self.model.mixture.cues), config))
        if slab.size < size:
            self._resize_cue(slab, method, size)
        return slab

    def reserve_head(self, kind: str, pooling: str, classes: int, size: int) -> Slab:
        """Give the head of a kind and pooling at least `size` seats, and room for so many classes."""
        slab = self.heads.setdefault(self._sort(kind, pooling, classes), Slab(len(self.model.heads)))
        room = self.model.head(slab.number).bias.shape[1] if slab.size else 0
        if slab.size < size or room < classes:
            self._resize_head(slab, kind, pooling, max(room, classes), max(slab.size, size))
        return slab

    def _sort(self, kind: str, pooling: str, classes: int) -> Sort:
        return kind, pooling, head_room(classes) if self.serves else 0

    def _resize_cue(self, slab: Slab, method: str, size: int) -> None:
        # its first parameters are nobody's, and the caller's generator stays as it is
        with torch.random.fork_rng(devices=[]):
            cue = Cue.registry[method](self.model.encoder.dims, slab.config, size)
        if slab.size:
            _copy(self.model.mixture.cue(slab.number), cue)
        for place, own in self.configs.items():
            if place.cue == slab.number:
                cue.configure(place.cue_seat, own)
        self._put(self.model.mixture.cues, slab.number, cue)
        slab.resize(size)

    def _resize_head(self, slab: Slab, kind: str, pooling: str, room: int, size: int) -> None:
        with torch.random.fork_rng(devices=[]):
            head = Head(kind, self.model.encoder.dims.hidden, [room] * size, pooling, self.dropout)
        if slab.size:
            before, both = self.model.head(slab.number), min(slab.size, size)
            _copy(before, head)
            head.classes[:both] = before.classes[:both]
        self._put(self.model.heads, slab.number, head)
        slab.resize(size)

    def shrink(self, slab: Slab, size: int) -> None:
        """Give up the seats of a slab from `size` on, which must be free."""
        assert all(seat in slab.free for seat in range(size, slab.size))
        for (method, _), own in self.cues.items():
            if own is slab:
                self._resize_cue(slab, method, size)
        for (kind, pooling, _), own in self.heads.items():
            if own is slab:
                room = self.model.head(slab.number).bias.shape[1]
                self._resize_head(slab, kind, pooling, room, size)

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
        heads = Counter(map(self._sort_of, adapters))
        classes: dict[Sort, int] = {}  # the most of each head
        for one in adapters:
            sort = self._sort_of(one)
            classes[sort] = max(classes.get(sort, 1), len(one.head["bias"]))
        for one in adapters:
            shape, sort = shape_of(one.method, one.config), self._sort_of(one)
            self.reserve_cue(one.method, one.config, self.cues.get(shape, Slab(0)).taken + cues[shape])
            self.reserve_head(*sort[:2], classes[sort], self.heads.get(sort, Slab(0)).taken + heads[sort])
        return [self.add(one) for one in adapters]

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

    def module(self, slab: Slab) -> nn.Module:
        """Return the cue or the head whose seats these are."""
        of_cue = any(own is slab for own in self.cues.values())
        return self.model.mixture.cue(slab.number) if of_cue else self.model.head(slab.number)

    @property
    def slabs(self) -> list[Slab]:
        """All slabs."""
        return [*self.cues.values(), *self.heads.values()]

    def lift(self, seat: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Copy a seat's parameters: (cue, head), float32 on the CPU."""
        return lift_seat(self.model, seat)

    def _find(self, adapter: Adapter, seat: int | None = None) -> Assignment:
        """Return an assignment that holds the adapter's parameters."""
        cue, head = self.slabs_of(adapter)
        cue = self.reserve_cue(adapter.method, adapter.config, cue.size if cue.free else 2 * cue.size or 1)
        head = self.reserve_head(
            adapter.kind,
            adapter.pooling,
            len(adapter.head["bias"]),
            head.size if head.free else 2 * head.size or 1,
        )
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

    def slabs_of(self, adapter: Adapter) -> tuple[Slab, Slab]:
        """Return the slabs of an adapter's cue and head; where there is none yet, one of no seats."""
        return (
            self.cues.get(shape_of(adapter.method, adapter.config), Slab(0)),
            self.heads.get(self._sort_of(adapter), Slab(0)),
        )

    def _sort_of(self, adapter: Adapter) -> Sort:
        return self._sort(adapter.kind, adapter.pooling, len(adapter.head["bias"]))

    def _free(self, place: Assignment) -> None:
        self.configs.pop(place, None)
        for slabs, number, seat in (
            (self.cues, place.cue, place.cue_seat),
            (self.heads, place.head, place.head_seat),
        ):
            next(slab for slab in slabs.values() if slab.number == number).free.append(seat)

    def _put(self, modules: nn.ModuleList, number: int, module: nn.Module) -> None:
        """Put a larger cue or head in the place of the smaller, ready for a forward that begins now."""
        module.to(self.model.device).train(self.model.training)
        if self.serves and modules is self.model.mixture.cues:
            self.model.hold(module)
        if number < len(modules):
            modules[number] = module
        else:
            modules.append(module)


@torch.no_grad()
def _copy(before: nn.Module, after: nn.Module) -> None:
    """Copy the parameters of all seats and classes that both modules have."""
    own = after.state_dict()
    for name, tensor in before.state_dict().items():
        both = tuple(slice(min(lengths)) for lengths in zip(tensor.shape, own[name].shape, strict=True))
        own[name][both].copy_(tensor[both])


def head_room(classes: int) -> int:
    """Return the rows of the heads among which a head of so many classes stands when it serves."""
    return next((step for step in HEAD_ROOMS if classes <= step), 1 << (classes - 1).bit_length())


@lru_cache(4_096)  # it takes as long as all else of seating an adapter
def shape_of(method: str, config: Any) -> tuple[str, Any]:
    """Return what adapters that share a cue have in common."""
    return method, Cue.registry[method].shape(config)


def lift_seat(model: Model, seat: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copy the parameters of a model's seat: (cue, head), float32 on the CPU."""
    place = model.places[seat]
    return lift(model.mixture.cue(place.cue), place.cue_seat, model.head(place.head), place.head_seat)


def seat_adapters(base: Base, adapters: Sequence[Adapter]) -> Model:
    """Return a model that answers with seat i for adapter i."""
    seating = Seating(base.backbone.encoder, serves=True)
    seating.model.eval()
    seating.add_all(adapters)
    return seating.model
