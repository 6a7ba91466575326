"""How large the special tokens' rows are at the input of each layer of a frozen encoder."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from softcue.batch import Batch, Example, pack
from softcue.encoder.core import Encoder
from softcue.protocol import Context, Silent
from softcue.rows import read_rows


@torch.inference_mode()
def row_sizes(encoder: Encoder, examples: Sequence[Example], slots: int, per_batch: int = 32) -> Tensor:
    """(L, S): root mean square of the numbers in each special token's row, over the examples that have it.

    Measured without a cue and without dropout; 0 for a slot that no example has.
    """
    training = encoder.training
    encoder.eval()
    device = next(encoder.parameters()).device
    total = torch.zeros(len(encoder.layers), slots, device=device)
    seen = torch.zeros(slots, device=device)
    for at in range(0, len(examples), per_batch):
        batch = pack(examples[at : at + per_batch], device=device)
        watcher = _Watcher(_special(batch, slots))
        encoder(batch, watcher)
        total += torch.stack(watcher.sums)
        seen += (watcher.row >= 0).sum(0)
    encoder.train(training)
    return (total / seen.clamp(min=1)).sqrt().cpu()


class _Watcher(Silent):
    """Changes nothing, and notes what enters each layer."""

    def __init__(self, row: Tensor) -> None:
        super().__init__()
        self.row = row  # (B, S)
        self.sums: list[Tensor] = []  # of each layer, (S,): mean squares of the rows, summed over examples

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        self.sums.append(read_rows(hidden, self.row).float().square().mean(-1).sum(0))
        return hidden


def _special(batch: Batch, slots: int) -> Tensor:
    """(B, S) rows of the special tokens, -1 where an example has fewer."""
    special = batch.special[:, :slots]
    return F.pad(special, (0, slots - special.shape[1]), value=-1)
