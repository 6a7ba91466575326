"""Results that jobs over the same rows share, computed once for all of them."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from softcue.base import Base
from softcue.batch import Example
from softcue.encoder.core import Encoder
from softcue.readers.items import ReadItems, remembering

Measure = Callable[[Encoder, Sequence[Example], int], Tensor]


class Shared:
    """The token ids of rows, and what was measured on them with the frozen encoder."""

    def __init__(self, base: Base) -> None:
        self.read: ReadItems = remembering(base.text)
        self._encoder = base.backbone.encoder
        # the examples are kept in memory, so that no other object can get their id()
        self._known: dict[Any, tuple[Sequence[Example], Tensor]] = {}

    def measured(self, measure: Measure, examples: Sequence[Example], slots: int) -> Tensor:
        """Return a measure of the examples' special tokens: (L, S); the caller must not change it."""
        key = measure, slots, tuple(map(id, examples))
        if key not in self._known:
            self._known[key] = examples, measure(self._encoder, examples, slots)
        return self._known[key][1]
