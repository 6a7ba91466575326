"""Attention to special tokens by layer and head, before and after tuning."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softcue.adapter import Adapter
from softcue.attention.layout import Bucket, Layout
from softcue.batch import Batch, pack
from softcue.files import JsonRecord
from softcue.inspection.looking import Subject, open_subject
from softcue.protocol import Cue, Silent
from softcue.readers import Data

MOSTLY = 0.5  # a head looks mostly at special tokens where they get more of its attention than this
Heads = tuple[tuple[tuple[float, ...], ...], ...]  # (L, H, S)


@dataclass(frozen=True)
class AttentionLook(JsonRecord):
    """Mean attention probability on each special token."""

    method: str
    data: str
    split: str
    rows: int
    slots: tuple[str, ...]  # roles of the special tokens, in reading order
    before: Heads  # the bare encoder
    after: Heads  # with the adapter; what is left of 1 goes to text and to prefixes
    mostly_before: tuple[float, ...]  # by layer: share of heads that look mostly at special tokens
    mostly_after: tuple[float, ...]


def inspect_attention(adapter: str | Path | Adapter, data: str | Path | Data, **how: Any) -> AttentionLook:
    """Measure attention on special tokens, with the adapter and without.

    It is the mean over the rows of an example, prompts left out, and over examples.
    how: split, rows, backbone and root, as open_subject takes them. Raises SoftcueError.
    """
    subject = open_subject(adapter, data, **how)
    device = subject.model.device
    bare = (pack(subject.examples[i : i + 32], device=device) for i in range(0, len(subject.examples), 32))
    before = attention_by_head(subject, bare, Silent())
    after = attention_by_head(subject, subject.batches(), subject.cue)
    return AttentionLook(
        **subject.told,  # type: ignore[arg-type]
        slots=subject.slots,
        before=_nested(before),
        after=_nested(after),
        mostly_before=_mostly(before),
        mostly_after=_mostly(after),
    )


@torch.inference_mode()
def attention_by_head(subject: Subject, batches: Iterable[Batch], cue: Cue) -> Tensor:
    """Measure attention on each special token: (L, H, S)."""
    encoder = subject.encoder
    dims, slots = encoder.dims, len(subject.slots)
    total = torch.zeros(dims.layers, dims.heads, slots)
    seen = torch.zeros(slots)
    for batch in batches:
        special = batch.special[:, :slots]
        present = (special >= 0).float()
        watcher = HeadWatcher(batch, special, cue.reserve, total[:, :, : special.shape[1]])
        encoder(batch, cue, watcher)
        seen[: special.shape[1]] += present.sum(0).cpu()
    return total / seen.clamp(min=1)


class HeadWatcher:
    """Adds up attention on special tokens, bucket by bucket and layer by layer."""

    def __init__(self, batch: Batch, special: Tensor, reserve: int, total: Tensor) -> None:
        self.present = (special >= 0).float()  # (B, S)
        self.column = batch.index[special.clamp(min=0)]  # (B, S) place within the example
        self.reserve, self.total = reserve, total  # (L, H, S)
        self.buckets, self.calls = len(Layout(batch).buckets), 0

    def __call__(self, chance: Tensor, bucket: Bucket) -> None:
        """Add one bucket of one layer: (b, H, t, P + t)."""
        texts, heads, places, keys = chance.shape
        real = torch.ones(texts, places) if bucket.pad is None else (~bucket.pad).float()
        real[:, : self.reserve] = 0  # prompts look too, and are no text
        column = self.column[bucket.example] + (keys - places)  # the prefix stands in front
        picked = chance.gather(3, column[:, None, None].expand(texts, heads, places, -1))  # (b, H, t, S)
        mass = (picked * real[:, None, :, None]).sum(2) / real.sum(1)[:, None, None]
        mass = mass * self.present[bucket.example][:, None]
        self.total[self.calls // self.buckets] += mass.sum(0).cpu()
        self.calls += 1


def _mostly(mass: Tensor) -> tuple[float, ...]:
    """Return the share of heads that look mostly at special tokens: (L, H, S) -> L numbers."""
    return tuple((mass.sum(2) > MOSTLY).float().mean(1).tolist())


def _nested(mass: Tensor) -> Heads:
    layers: Sequence[Sequence[Sequence[float]]] = mass.tolist()
    return tuple(tuple(tuple(head) for head in layer) for layer in layers)
