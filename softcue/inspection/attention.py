"""Attention on special tokens by layer and head, before and after tuning."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor

from softcue.adapter import Adapter
from softcue.attention.layout import Bucket, Layout
from softcue.batch import Batch
from softcue.encoder.by_slot import special_rows
from softcue.files import JsonRecord
from softcue.inspection.subject import Grid, HowOpened, Row, Shown, Subject, grid, open_subject
from softcue.protocol import Cue, Silent
from softcue.readers import Data

MOSTLY = 0.5  # share of a head's attention above which it attends mostly to special tokens


@dataclass(frozen=True)
class AttentionTable(JsonRecord):
    """Attention probabilities, averaged over the text's query rows and over examples."""

    slots: tuple[Grid, ...]  # S times (L, H): on each special token, averaged over the examples that have it
    special: Grid  # (L, H): on all special tokens of an example
    prompt: Grid  # (L, H): on the adapter's prefix tokens and prompt rows
    mostly: Row  # (L,): the share of heads with more than half of their attention on special tokens


@dataclass(frozen=True)
class AttentionView(JsonRecord):
    """Attention on special tokens without and with the adapter."""

    shown: Shown
    slots: tuple[str, ...]
    before: AttentionTable
    after: AttentionTable

    def lines(self) -> list[str]:
        """Return the findings as lines of text."""
        shares = [_mean(table.mostly) for table in (self.before, self.after)]
        mass = [_mean(tuple(map(_mean, table.special))) for table in (self.before, self.after)]
        prompt = _mean(tuple(map(_mean, self.after.prompt)))
        return [
            f"attention on special tokens: {mass[0]:.3f} before, {mass[1]:.3f} with {self.shown.title}",
            f"heads that attend mostly to them: {shares[0]:.1%} before, {shares[1]:.1%} after; on prompts "
            f"and prefixes: {prompt:.3f} after",
        ]


def inspect_attention(
    adapter: str | Path | Adapter, data: str | Path | Data, **how: Unpack[HowOpened]
) -> AttentionView:
    """Measure attention on special tokens by layer and head, without and with an adapter of any method.

    data, how: as for `evaluate`, and `rows`, the most rows to use (default 256), drawn with a fixed seed. The
    default split is test, or dev if there is no test. Raises SoftcueError.
    """
    return attention_view(open_subject(adapter, data, **how))


def attention_view(subject: Subject) -> AttentionView:
    """Measure what `inspect_attention` returns."""
    before = measured(subject, subject.bare_batches(), Silent())
    after = measured(subject, subject.batches(), subject.model.mixture)
    return AttentionView(subject.shown, subject.slots, before, after)


def measured(subject: Subject, given: Iterable[Batch], cue: Cue) -> AttentionTable:
    """Measure attention with one cue; Silent() stands for the bare encoder."""
    dims, slots = subject.encoder.dims, len(subject.slots)
    on_slots = torch.zeros(dims.layers, dims.heads, slots)
    special, prompt = torch.zeros(dims.layers, dims.heads), torch.zeros(dims.layers, dims.heads)
    having, texts = torch.zeros(slots), 0
    for batch in given:
        row = special_rows(batch, slots)
        parts = _of_batch(subject, batch, row, cue)
        on_slots += parts[..., :slots]
        special += parts[..., :slots].sum(-1)
        prompt += parts[..., slots]
        having += (row >= 0).sum(0).cpu()
        texts += len(batch)
    special /= texts
    return AttentionTable(
        slots=tuple(grid(on_slots[..., slot] / having[slot].clamp(min=1)) for slot in range(slots)),
        special=grid(special),
        prompt=grid(prompt / texts),
        mostly=tuple((special > MOSTLY).float().mean(1).tolist()),
    )


@torch.inference_mode()
def _of_batch(subject: Subject, batch: Batch, row: Tensor, cue: Cue) -> Tensor:
    """Sum attention on each special token and on prompts over a batch's examples.

    row: the rows of the special tokens, from special_rows.
    (B, S) -> (L, H, S + 1).
    """
    present, column = row >= 0, _column(batch, row)  # (B, S)
    there, reserved = batch.reserved >= 0, _column(batch, batch.reserved)  # (B, R)
    layers: list[Tensor] = []
    current: list[Tensor] = []

    def watch(chance: Tensor, bucket: Bucket) -> None:
        """Add up the attention of a bucket's text rows: (b, H, t, P + t)."""
        real = batch.is_text[bucket.row]  # (b, t)
        real = (real if bucket.pad is None else real & ~bucket.pad).float()
        mass = torch.einsum("bhtc,bt->bhc", chance, real / real.sum(1, keepdim=True))  # (b, H, P + t)
        front = chance.shape[-1] - chance.shape[-2]
        on_slots = _at(mass, front + column[bucket.example], present[bucket.example])
        on_rows = _at(mass, front + reserved[bucket.example], there[bucket.example])
        on_prompt = mass[..., :front].sum(-1) + on_rows.sum(-1)
        current.append(torch.cat([on_slots, on_prompt[..., None]], -1).sum(0))
        if len(current) == buckets:
            layers.append(torch.stack(current).sum(0))
            current.clear()

    buckets = len(Layout(batch).buckets)
    subject.encoder(batch, cue, watch)
    return torch.stack(layers).cpu()


def _column(batch: Batch, row: Tensor) -> Tensor:
    """Return the rows' places in their examples: (B, S) -> (B, S); any value for a row of -1."""
    return batch.index[row.clamp(min=0)]


def _at(mass: Tensor, column: Tensor, there: Tensor) -> Tensor:
    """Read columns, with 0 if an example has none: (b, H, P + t), (b, S), (b, S) -> (b, H, S)."""
    taken = mass.gather(2, column[:, None].expand(-1, mass.shape[1], -1).clamp(max=mass.shape[2] - 1))
    return taken * there[:, None]


def _mean(row: Row) -> float:
    return sum(row) / len(row)
