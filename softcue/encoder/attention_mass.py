"""How much attention each layer of a frozen encoder pays to each special token."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from softcue.attention.layout import Bucket, Layout
from softcue.batch import Batch, Example, pack
from softcue.encoder.core import Encoder
from softcue.protocol import Silent


@torch.inference_mode()
def attention_mass(encoder: Encoder, examples: Sequence[Example], slots: int, per_batch: int = 32) -> Tensor:
    """(L, S): attention probability on each special token, mean over heads, query rows and examples (Clark et al., 2019).

    Measured without a cue and without dropout; a slot counts in the examples that have it.
    """
    training = encoder.training
    encoder.eval()
    device = next(encoder.parameters()).device
    total = torch.zeros(len(encoder.layers), slots, device=device)
    seen = torch.zeros(slots, device=device)
    for at in range(0, len(examples), per_batch):
        batch = pack(examples[at : at + per_batch], device=device)
        sums, counts = _of_batch(encoder, batch, slots)
        total += sums
        seen += counts
    encoder.train(training)
    return (total / seen.clamp(min=1)).cpu()


def _of_batch(encoder: Encoder, batch: Batch, slots: int) -> tuple[Tensor, Tensor]:
    """(L, S) sums over examples, (S,) how many examples have each slot."""
    rows = F.pad(
        batch.special[:, :slots], (0, max(0, slots - batch.special.shape[1])), value=-1
    )  # no example of this batch may have them all
    present = (rows >= 0).float()
    column = batch.index[rows.clamp(min=0)]  # (B, S) place within the example
    layers: list[Tensor] = []
    current: list[Tensor] = []

    def watch(chance: Tensor, bucket: Bucket) -> None:
        """Attention of (b, H, t, t): mean over heads and real query rows, then read at the special tokens' columns."""
        real = torch.ones_like(bucket.row, dtype=torch.float32) if bucket.pad is None else (~bucket.pad).float()
        mass = (chance.mean(1) * real[:, :, None]).sum(1) / real.sum(1, keepdim=True)  # (b, t)
        special = column[bucket.example]
        current.append((mass.gather(1, special) * present[bucket.example]).sum(0))
        if len(current) == buckets:
            layers.append(torch.stack(current).sum(0))
            current.clear()

    buckets = len(Layout(batch).buckets)
    encoder(batch, Silent(), watch)
    return torch.stack(layers), present.sum(0)
