"""Layout: the examples of a batch in buckets of similar length, and where each row stands in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from softcue.batch import Batch

MOST = 2**17  # logits of one head in a bucket of several examples, on CPU: more have left its cache before they are read again
FIXED = 4096  # logits of one head that cost about as much as what a bucket costs whatever its size


@dataclass(frozen=True)
class Bucket:
    """b examples of about the same length t, as places in the packed rows."""

    example: Tensor  # (b,)
    row: Tensor  # (b, t) the example's rows; its last row again where it is shorter
    pad: Tensor | None  # (b, t) True where it is shorter; None where none is

    @property
    def size(self) -> int:
        """Places in the bucket, padding included."""
        return self.row.numel()

    @cached_property
    def hide(self) -> Tensor | None:
        """(b, 1, 1, t) float32: minus infinity at padding; None where there is none."""
        if self.pad is None:
            return None
        return torch.zeros(self.pad.shape, device=self.pad.device).masked_fill_(self.pad, -torch.inf)[:, None, None]


Watch = Callable[[Tensor, Bucket], None]  # sees attention probabilities (b, H, t, P + t)


@dataclass(frozen=True)
class Layout:
    """How one batch is laid out for attention; built once per forward."""

    buckets: tuple[Bucket, ...]
    place: Tensor  # (N,) where each row stands among the places of all buckets, end to end
    row: Tensor  # (places,) the row at each place
    back: Tensor  # (places,) the same, N at padding: the row of zeros that gradients find there
    example: Tensor  # (B,) the examples in the buckets' order
    home: Tensor  # (B,) where each example stands in that order
    watch: Watch | None = None

    @property
    def plain(self) -> bool:
        """Whether all examples are of one length: then the places are the rows as they are."""
        return len(self.buckets) == 1 and self.buckets[0].pad is None

    @staticmethod
    def of(batch: Batch, watch: Watch | None = None) -> "Layout":
        """Group the batch's examples into buckets of similar length."""
        lengths, starts = torch.tensor(batch.lengths), torch.tensor([0, *accumulate(batch.lengths)])
        groups = _similar(batch.lengths, MOST if batch.device.type == "cpu" else None)
        buckets, place, at = [], torch.empty(int(starts[-1]), dtype=torch.long), 0
        for members in map(torch.tensor, groups):
            count = lengths[members, None]
            column = torch.arange(int(count[0]))
            row = starts[members, None] + torch.minimum(column, count - 1)
            pad = column >= count if int(count[-1]) < len(column) else None
            number = torch.arange(at, at + row.numel()).view(row.shape)
            real = slice(None) if pad is None else ~pad
            place[row[real]] = number[real]
            buckets.append((members, row, pad))
            at += row.numel()
        device = batch.device
        row = torch.cat([row.flatten() for _, row, _ in buckets])
        example = torch.cat([members for members, _, _ in buckets])
        back = torch.full_like(row, len(place)).index_copy_(0, place, torch.arange(len(place)))
        return Layout(
            buckets=tuple(Bucket(e.to(device), r.to(device), None if p is None else p.to(device)) for e, r, p in buckets),
            place=place.to(device),
            row=row.to(device),
            back=back.to(device),
            example=example.to(device),
            home=example.argsort().to(device),
            watch=watch,
        )


def _similar(lengths: Sequence[int], most: int | None) -> list[list[int]]:
    """Example numbers in groups of similar length, longest first; a group's padding costs about as much as one more group would."""
    groups: list[list[int]] = []
    waste = longest = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        waste += longest**2 - lengths[i] ** 2
        if not groups or waste > FIXED or (most is not None and (len(groups[-1]) + 1) * longest**2 > most):
            groups.append([])
            waste, longest = 0, lengths[i]
        groups[-1].append(i)
    return groups
