"""Selection: the gates of prefix tokens, and how similar the prefix tokens are, by layer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor

from softcue.adapter import Adapter
from softcue.attention.layout import Bucket
from softcue.batch import Batch
from softcue.files import JsonRecord
from softcue.inspection.subject import Grid, HowOpened, Row, Shown, Subject, grid, open_subject
from softcue.readers import Data


@dataclass(frozen=True)
class SelectionView(JsonRecord):
    """The gates of prefix tokens, and how similar the prefix tokens are to each other."""

    shown: Shown
    gate: Grid  # (L, P): mean over heads, query rows and texts
    likeness: Row  # (L,): mean |cosine| over pairs of prefix tokens, of keys and of values
    pairs: tuple[Grid, ...]  # L times (P, P): |cosine| of each pair, the mean of keys and values

    def lines(self) -> list[str]:
        """Return the findings as lines of text."""
        gate = torch.tensor(self.gate)
        alike = sum(self.likeness) / len(self.likeness)
        return [
            f"{self.shown.title}: gates from {gate.min():.3f} to {gate.max():.3f}, "
            f"{gate.mean():.3f} on average",
            f"|cosine| of two prefix tokens: {alike:.3f} on average, at most "
            f"{max(self.likeness):.3f} in layer {self.likeness.index(max(self.likeness))}",
        ]


def inspect_selection(
    adapter: str | Path | Adapter, data: str | Path | Data, **how: Unpack[HowOpened]
) -> SelectionView:
    """Measure the gates of prefix tokens that depend on the tokens' own attention scores (SPT).

    It also measures how similar the prefix tokens are. Other arguments: as for inspect_attention. Raises
    SoftcueError; RequestError if the adapter has no such gates.
    """
    return selection_view(open_subject(adapter, data, **how))


def selection_view(subject: Subject) -> SelectionView:
    """Measure what `inspect_selection` returns."""
    layers, texts = subject.encoder.dims.layers, 0
    total: list[Tensor | float] = [0.0] * layers
    cosines: dict[int, Tensor] = {}
    for batch in subject.batches():
        gates, own = _of_batch(subject, batch)
        cosines |= own
        texts += len(batch)
        total = [sums + gates[layer] for layer, sums in enumerate(total)] if gates else total
    if not cosines:
        raise subject.refuse("gates on its prefix tokens' own scores", "spt")
    pairs = torch.stack([cosines[layer] for layer in range(layers)])  # (L, P, P)
    gate = torch.stack([torch.as_tensor(sums) for sums in total]) / texts
    count = pairs.shape[-1]
    each = pairs.triu(1).sum((1, 2)) / max(1, count * (count - 1) // 2)  # a single token makes no pair
    return SelectionView(
        shown=subject.shown,
        gate=grid(gate),
        likeness=tuple(each.tolist()),
        pairs=tuple(grid(table) for table in pairs),
    )


def _of_batch(subject: Subject, batch: Batch) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Return, by layer, sums of gates over a batch's examples, (P,), and cosines, (P, P)."""
    sums: dict[int, Tensor] = {}
    cosines: dict[int, Tensor] = {}
    waiting: list[tuple[int, Tensor]] = []

    def watch_cue(name: str, layer: int, values: Tensor) -> None:
        """Keep a bucket's gates until `watch` knows which of its rows are padding."""
        if name == "selection_gate":
            waiting.append((layer, values))
        if name == "prefix_cosine":
            cosines[layer] = values.double().mean(0).cpu()

    def watch(chance: Tensor, bucket: Bucket) -> None:
        """Add up the gates of a bucket, (b, H, t, P), without its padding."""
        if not waiting:
            return
        layer, gate = waiting.pop()
        real = torch.ones(bucket.row.shape, device=gate.device) if bucket.pad is None else ~bucket.pad
        mean = torch.einsum("bhtp,bt->bp", gate.double(), real / real.sum(1, keepdim=True).double())
        sums[layer] = sums.get(layer, 0.0) + mean.sum(0).cpu() / gate.shape[1]

    subject.look(batch, watch, watch_cue)
    return sums, cosines
