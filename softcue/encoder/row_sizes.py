"""How large the special tokens' rows are at the input of each layer of a frozen encoder."""

from collections.abc import Sequence

import torch
from torch import Tensor

from softcue.batch import Batch, Example
from softcue.encoder.by_slot import mean_by_slot
from softcue.encoder.core import Encoder
from softcue.protocol import Context, Silent
from softcue.rows import read_rows


def row_sizes(encoder: Encoder, examples: Sequence[Example], slots: int, per_batch: int = 32) -> Tensor:
    """Measure the root mean square of each special token's row: (L, S).

    Measured without a cue and without dropout; 0 for a slot that no example has.
    """

    def squares(batch: Batch, row: Tensor) -> Tensor:
        watcher = _Watcher(row)
        encoder(batch, watcher)
        return torch.stack(watcher.sums)

    return mean_by_slot(encoder, examples, slots, per_batch, squares).sqrt().cpu()


class _Watcher(Silent):
    """Changes nothing, and notes what enters each layer."""

    def __init__(self, row: Tensor) -> None:
        super().__init__()
        self.row = row  # (B, S)
        self.sums: list[Tensor] = []  # of each layer, (S,): mean squares of the rows, summed over examples

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        self.sums.append(read_rows(hidden, self.row).float().square().mean(-1).sum(0))
        return hidden
