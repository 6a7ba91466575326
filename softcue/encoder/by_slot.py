"""Means over examples of what a frozen encoder shows of each special token."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from softcue.batch import Batch, Example, pack
from softcue.encoder.core import Encoder


@torch.inference_mode()
def mean_by_slot(
    encoder: Encoder,
    examples: Sequence[Example],
    slots: int,
    per_batch: int,
    measure: Callable[[Batch, Tensor], Tensor],
) -> Tensor:
    """Average a measure over the examples that have each slot: (L, S).

    0 for a slot that none has; without dropout.

    measure: a batch and the (B, S) rows of its special tokens, -1 where an example has fewer -> (L, S) sums
    over its examples.
    """
    training = encoder.training
    encoder.eval()
    device = next(encoder.parameters()).device
    total = torch.zeros(len(encoder.layers), slots, device=device)
    seen = torch.zeros(slots, device=device)
    for at in range(0, len(examples), per_batch):
        batch = pack(examples[at : at + per_batch], device=device)
        row = special_rows(batch, slots)
        total += measure(batch, row)
        seen += (row >= 0).sum(0)
    encoder.train(training)
    return total / seen.clamp(min=1)


def special_rows(batch: Batch, slots: int) -> Tensor:
    """Return the row of each special token, -1 where an example has fewer: (B, S).

    It has as many columns as asked for: no example of the batch may have them all.
    """
    special = batch.special[:, :slots]
    return F.pad(special, (0, slots - special.shape[1]), value=-1)
