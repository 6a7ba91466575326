"""Layout: the examples of a batch in buckets of similar length, and where each row stands in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

from softcue.batch import Batch, moved, sent

# logits of one head in a bucket of several examples, on CPU: more have left its cache before they are read
# again
MOST_LOGITS = 2**17
FIXED = 12_288  # logits of one head that cost about as much as what a bucket costs whatever its size
# a bucket has a multiple of these where it can: attention's products are made anew for sizes not seen lately
MEMBERS, COLUMNS = 8, 4


@dataclass(frozen=True)
class Bucket:
    """b examples of about the same length t, as places in the packed rows."""

    example: Tensor  # (b,)
    row: Tensor  # (b, t) the example's rows; its last row again where it is shorter; t may be longer than any
    pad: Tensor | None  # (b, t) True where it is shorter; None where none is
    shortest: int  # rows of its shortest example: columns from here on may be padding

    @property
    def size(self) -> int:
        """Places in the bucket, padding included."""
        return self.row.numel()

    @property
    def tail(self) -> Tensor | None:
        """Where padding may be, (b, 1, 1, c) in the last c columns: True at it; None where there is none."""
        return None if self.pad is None else self.pad[:, None, None, self.shortest :]


AttentionObserver = Callable[[Tensor, Bucket], None]  # sees attention probabilities (b, H, t, P + t)
Write = Callable[[int, Tensor], None]  # (number of a bucket, its places): fills them in


@dataclass(frozen=True)
class Stretch:
    """Rows one after another that stand in some of the places of buckets.

    The places are those of all buckets, or of one where the rows have its order.
    """

    first: int
    end: int
    # (places,) the row at each place, counted from `first`; None: rows and places are the same
    row: Tensor | None = None
    # (places,) the same, one past the last row at padding: the row of zeros that gradients find there
    back: Tensor | None = None
    place: Tensor | None = None  # (end - first,) the place of each row

    def padded(self, rows: Tensor, zeros: bool) -> Tensor:
        """Fill the places from rows: (N, W) -> (places, W); at padding zeros, or what the row says."""
        own = rows[self.first : self.end]
        if self.row is None or self.back is None:
            return own
        return F.pad(own, (0, 0, 0, 1)).index_select(0, self.back) if zeros else own.index_select(0, self.row)


@dataclass(frozen=True)
class Places:
    """The buckets of a batch, and where each of its rows stands in them."""

    buckets: tuple[Bucket, ...]
    # one for each bucket, where the batch has the buckets' order; else one for all
    stretches: tuple[Stretch, ...]
    example: Tensor | None  # (B,) the examples in the buckets' order; None: it is the batch's
    home: Tensor | None  # (B,) where each example stands in that order


@dataclass(frozen=True)
class InFront:
    """Where tokens in front of each example and its rows stand, one example after another."""

    starts: Tensor  # (B + 1,) int32: the first place of each example, and one past the last
    # (places,) what stands at each, counted through all that stand in front and then through all rows
    there: Tensor
    back: Tensor  # (places,) its inverse


@dataclass(frozen=True)
class Layout:
    """How one batch is laid out for attention.

    It is made once per forward pass, and its buckets when they are first asked for.
    """

    batch: Batch
    watch: AttentionObserver | None = None
    _in_front: dict[int, InFront] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def starts(self) -> Tensor:
        """(B + 1,) each example's first row in the batch, and one past the last."""
        return sent(torch.tensor([0, *accumulate(self.batch.lengths)]), self.batch.device)

    @cached_property
    def starts_int32(self) -> Tensor:
        """The same, as flash attention takes them."""
        return self.starts.int()

    def in_front(self, count: int) -> InFront:
        """Return where `count` tokens in front of each example stand."""
        if count not in self._in_front:
            self._in_front[count] = _in_front(self.batch, self.starts, count)
        return self._in_front[count]

    @cached_property
    def places(self) -> Places:
        """The examples in buckets of similar length."""
        return _places(self.batch)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """Of its places."""
        return self.places.buckets

    @property
    def columns(self) -> int:
        """Places that the longest example has, padding included."""
        return max(bucket.row.shape[1] for bucket in self.buckets)

    @property
    def plain(self) -> bool:
        """Whether all examples are of one length: then the places are the rows as they are."""
        return len(self.buckets) == 1 and self.buckets[0].pad is None

    def padded(self, rows: Tensor, zeros: bool = False) -> list[Tensor]:
        """Fill each bucket's places: (N, W) -> (b * t, W) each.

        At padding stands the example's last row again, or zeros.
        """
        return self.by_bucket([stretch.padded(rows, zeros) for stretch in self.places.stretches])

    def collect(self, like: Tensor, width: int, write: Write) -> Tensor:
        """Return rows from what `write` fills each bucket's places with.

        (..) -> (N, width), of that tensor's type and device.
        """
        stretches = self.places.stretches
        rows = like.new_empty(stretches[-1].end, width)
        places = [
            rows[s.first : s.end] if s.row is None else like.new_empty(len(s.row), width) for s in stretches
        ]
        for number, own in enumerate(self.by_bucket(places)):
            write(number, own)
        for stretch, own in zip(stretches, places, strict=True):
            if stretch.place is not None:
                torch.index_select(own, 0, stretch.place, out=rows[stretch.first : stretch.end])
        return rows

    def by_bucket(self, places: list[Tensor]) -> list[Tensor]:
        """Split each stretch's places into each bucket's."""
        if len(places) == len(self.buckets):
            return places
        return list(places[0].split([bucket.size for bucket in self.buckets]))


def _in_front(batch: Batch, starts: Tensor, count: int) -> InFront:
    """Return where tokens stand in front of examples that begin at `starts`."""
    moved_by = count * torch.arange(len(starts), device=starts.device)
    first = starts + moved_by
    front = first[:-1, None] + torch.arange(count, device=starts.device)
    rows = torch.arange(len(batch.owner), device=starts.device) + moved_by[1:][batch.owner]
    back = torch.cat([front.flatten(), rows])
    there = torch.empty_like(back).index_copy_(0, back, torch.arange(len(back), device=starts.device))
    return InFront(first.int(), there, back)


def _places(batch: Batch) -> Places:
    """Group the batch's examples into buckets of similar length."""
    lengths, starts = torch.tensor(batch.lengths), [0, *accumulate(batch.lengths)]
    groups = _similar(batch.lengths, MOST_LOGITS if batch.device.type == "cpu" else None)
    ordered = [i for members in groups for i in members] == list(range(len(batch)))
    first_row, buckets, multiple = torch.tensor(starts), [], COLUMNS if len(set(batch.lengths)) > 1 else 1
    for members in map(torch.tensor, groups):
        count = lengths[members, None]
        column = torch.arange(bucket_columns(int(count[0]), multiple))
        row = first_row[members, None] + torch.minimum(column, count - 1)
        shortest = int(count[-1])
        buckets.append(Bucket(members, row, column >= count if shortest < len(column) else None, shortest))
    parts = [[bucket] for bucket in buckets] if ordered else [buckets]
    spans = [(starts[group[0]], starts[group[-1] + 1]) for group in groups] if ordered else [(0, starts[-1])]
    stretches = [_stretch(part, *span, ordered) for part, span in zip(parts, spans, strict=True)]
    example = torch.cat([bucket.example for bucket in buckets])
    return Places(
        buckets=tuple(moved(bucket, batch.device) for bucket in buckets),
        stretches=tuple(moved(stretch, batch.device) for stretch in stretches),
        example=None if ordered else sent(example, batch.device),
        home=None if ordered else sent(example.argsort(), batch.device),
    )


def bucket_columns(longest: int, multiple: int = COLUMNS) -> int:
    """Return the places of a bucket whose longest example has so many rows.

    Without a multiple: the most that it may have.
    """
    return -(-longest // multiple) * multiple


def _stretch(buckets: Sequence[Bucket], first: int, end: int, ordered: bool) -> Stretch:
    """Return the stretch of the rows from `first` up to `end`, which are the buckets'."""
    if ordered and all(bucket.pad is None for bucket in buckets):
        return Stretch(first, end)
    row = torch.cat([bucket.row.flatten() for bucket in buckets]) - first
    real = torch.cat(
        [torch.ones(b.size, dtype=torch.bool) if b.pad is None else ~b.pad.flatten() for b in buckets]
    )
    back = row.masked_fill(~real, end - first)
    place = torch.empty(end - first, dtype=torch.long)
    place[row[real]] = real.nonzero()[:, 0]
    return Stretch(first, end, row, back, place)


def _similar(lengths: Sequence[int], most: int | None) -> list[list[int]]:
    """Group example numbers by similar length, longest first.

    A group's padding costs about as much as one more group would.

    A group of an odd size may cost twice that before it is ended.
    """
    groups: list[list[int]] = []
    waste = longest = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        waste += longest**2 - lengths[i] ** 2
        size = len(groups[-1]) if groups else 0
        allowed = FIXED if size % MEMBERS == 0 else 2 * FIXED
        if not groups or waste > allowed or (most is not None and (size + 1) * longest**2 > most):
            groups.append([])
            waste, longest = 0, lengths[i]
        groups[-1].append(i)
    return groups
