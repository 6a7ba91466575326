"""How much attention each layer of a frozen encoder pays to each special token."""

from collections.abc import Sequence

import torch
from torch import Tensor

from softcue.attention.layout import Bucket, Layout
from softcue.batch import Batch, Example
from softcue.encoder.by_slot import mean_by_slot
from softcue.encoder.core import Encoder
from softcue.protocol import Silent


def attention_mass(encoder: Encoder, examples: Sequence[Example], slots: int, per_batch: int = 32) -> Tensor:
    """Measure the attention probability on each special token: (L, S).

    It is the mean over heads, query rows and examples (Clark et al., 2019).

    Measured without a cue and without dropout; a slot counts in the examples that have it.
    """
    return mean_by_slot(
        encoder, examples, slots, per_batch, lambda batch, row: _of_batch(encoder, batch, row)
    ).cpu()


def _of_batch(encoder: Encoder, batch: Batch, row: Tensor) -> Tensor:
    """Sum over a batch's examples: (B, S) rows of the special tokens -> (L, S)."""
    present = (row >= 0).float()
    column = batch.index[row.clamp(min=0)]  # (B, S) place within the example
    layers: list[Tensor] = []
    current: list[Tensor] = []

    def watch(chance: Tensor, bucket: Bucket) -> None:
        """Add up attention of (b, H, t, t) at the special tokens' columns.

        It is the mean over heads and real query rows.
        """
        real = (
            torch.ones_like(bucket.row, dtype=torch.float32) if bucket.pad is None else (~bucket.pad).float()
        )
        mass = (chance.mean(1) * real[:, :, None]).sum(1) / real.sum(1, keepdim=True)  # (b, t)
        special = column[bucket.example]
        current.append((mass.gather(1, special) * present[bucket.example]).sum(0))
        if len(current) == buckets:
            layers.append(torch.stack(current).sum(0))
            current.clear()

    buckets = len(Layout(batch).buckets)
    encoder(batch, Silent(), watch)
    return torch.stack(layers)
