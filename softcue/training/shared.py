"""What jobs over the same rows have in common, read or measured once for all of them."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from softcue.base import Base
from softcue.batch import Example
from softcue.encoder.core import Encoder
from softcue.readers.items import ReadItems, remembering

Measure = Callable[[Encoder, Sequence[Example], int], Tensor]


class Shared:
    """The token ids of rows, and what a frozen encoder shows of them."""

    def __init__(self, base: Base) -> None:
        self.read: ReadItems = remembering(base.text)
        self._encoder = base.backbone.encoder
        # the examples are kept, so that their ids stay theirs
        self._known: dict[Any, tuple[Sequence[Example], Tensor]] = {}

    def measured(self, measure: Measure, examples: Sequence[Example], slots: int) -> Tensor:
        """Return a measure over the examples' special tokens: (L, S), not to be changed."""
        key = measure, slots, tuple(map(id, examples))
        if key not in self._known:
            self._known[key] = examples, measure(self._encoder, examples, slots)
        return self._known[key][1]
