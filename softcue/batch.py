"""Batch: examples one after another in rows, without padding; pack() makes one from token ids."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import accumulate, chain
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from softcue.errors import BatchError
from softcue.text.example import Example as Example

# (seat, first, one past the last) for every run of things that have the same seat
Runs = tuple[tuple[int, int, int], ...]
T = TypeVar("T")
# which rows of an example are read after the last layer: all, only [CLS], or the first of each word
Reads = Literal["all", "first", "words"]


@dataclass(frozen=True)
class Batch:
    """Holds B examples one after another in N rows, or the part of them that one cue or head serves.

    docs/shapes.md explains the letters.
    """

    token: Tensor  # (N,) token id; 0 in reserved rows
    position: Tensor  # (N,) counted from 0 in reserved rows, and from the example's shift in text rows
    segment: Tensor  # (N,) 0 for the first text, 1 for the second
    index: Tensor  # (N,) place of each row in its example
    special: Tensor  # (B, S) row of the s-th special token, -1 if the example has fewer; slot 0 is [CLS]
    reserved: Tensor  # (B, R) rows for a cue's own vectors, -1 if the example has fewer
    owner: Tensor  # (M,) the example of each row of the part; M = N for the whole batch
    word: Tensor  # (W,) first row of each word (tagging)
    seat: Tensor  # (B,) the seat of each example's adapter
    group: Tensor  # (B,) the question of each example; the choices of one question share it
    # number of rows of each example, reserved ones included; like all tuples here, kept on the host
    lengths: tuple[int, ...]
    words: tuple[int, ...]  # number of words of each example
    seats: tuple[int, ...]  # `seat`, on the host
    groups: tuple[int, ...]  # `group`, on the host
    order: tuple[int, ...]  # place of each example in the request
    # an id for each text: equal for equal tokens, special tokens and positions
    texts: tuple[int, ...]
    reach: int  # one more than the largest position, on the host
    rows: Tensor | None = None  # (M,) the part's rows in the whole batch; None: all of them

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def longest(self) -> int:
        """Number of rows of the longest example (T)."""
        return max(self.lengths)

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.seat.device

    @cached_property
    def runs(self) -> Runs:
        """Runs of examples with the same seat; pack() orders examples by seat, so there are few."""
        return runs_of(self.seats, [1] * len(self.seats))

    @cached_property
    def row_runs(self) -> Runs:
        """The same, counted in the part's rows."""
        return runs_of(self.seats, self.lengths)

    @cached_property
    def word_runs(self) -> Runs:
        """The same, counted in words."""
        return runs_of(self.seats, self.words)

    @cached_property
    def is_text(self) -> Tensor:
        """(M,) True for rows of text and special tokens, False for reserved rows."""
        count = len(self.token)
        reserved = torch.zeros(count + 1, dtype=torch.bool, device=self.device)  # -1 points to the last
        reserved.index_fill_(0, self.reserved.flatten().remainder(count + 1), True)
        return ~self.take(reserved[:count])

    def questions(self) -> dict[int, list[int]]:
        """Return the examples of each question, in the order of the request."""
        found: dict[int, list[int]] = {}
        for i in sorted(range(len(self)), key=lambda i: self.order[i]):
            found.setdefault(self.groups[i], []).append(i)
        return found

    @property
    def front(self) -> Tensor:
        """(B,) the first row of each example: its first reserved row, or that of [CLS] if it has none."""
        if not self.reserved.shape[1]:
            return self.special[:, 0]
        return torch.where(self.reserved[:, 0] < 0, self.special[:, 0], self.reserved[:, 0])

    def check_special(self, most: int, method: str) -> None:
        """Raise BatchError for an example with more special tokens than its adapter was trained for.

        most: that number. method: the adapter's method, for the message.
        """
        if self.special.shape[1] > most and bool((self.special[:, most:] >= 0).any()):
            raise BatchError(
                f"an example has {self.special.shape[1]} special tokens; its {method} adapter was trained "
                f"for {most}: give as many texts as in training (one or a pair)"
            )

    def take(self, rows: Tensor) -> Tensor:
        """Return the part's own rows of a tensor over all rows: (N, ..) -> (M, ..)."""
        return rows if self.rows is None else rows[self.rows]

    def part(self, examples: Sequence[int], seats: Sequence[int]) -> "Batch":
        """Return the part of the batch that one cue or head serves, with that cue's or head's seat indices.

        The values of `special`, `reserved` and `word` remain row numbers of the whole batch.
        """
        starts, word_starts = [0, *accumulate(self.lengths)], [0, *accumulate(self.words)]
        lengths = tuple(self.lengths[i] for i in examples)
        own = _together(
            self.device,
            index=list(examples),
            rows=_joined(range(starts[i], starts[i + 1]) for i in examples),
            word=_joined(range(word_starts[i], word_starts[i + 1]) for i in examples),
            owner=_joined([i] * n for i, n in enumerate(lengths)),
            seat=list(seats),
        )
        index, rows = own["index"], own["rows"]
        return replace(
            self,
            special=self.special[index],
            reserved=self.reserved[index],
            owner=own["owner"],
            word=self.word[own["word"]],
            seat=own["seat"],
            group=self.group[index],
            lengths=lengths,
            words=tuple(self.words[i] for i in examples),
            seats=tuple(seats),
            groups=tuple(self.groups[i] for i in examples),
            order=tuple(self.order[i] for i in examples),
            texts=tuple(self.texts[i] for i in examples),
            rows=rows if self.rows is None else self.rows[rows],
        )

    def alone(self, examples: Sequence[int]) -> "Batch":
        """Return some examples of a whole batch as a separate batch, whose rows count from 0."""
        part = self.part(examples, [self.seats[i] for i in examples])
        assert part.rows is not None
        count, own = len(self.token), torch.arange(len(part.rows), device=self.device)
        place = torch.full((count + 1,), -1, device=self.device)  # -1 points to the last
        place = place.index_copy_(0, part.rows, own)
        return replace(
            part,
            **{name: getattr(self, name)[part.rows] for name in ("token", "position", "segment", "index")},
            special=place[part.special.remainder(count + 1)],
            reserved=place[part.reserved.remainder(count + 1)],
            word=place[part.word],
            rows=None,
        )


def sent(numbers: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the host to a device without waiting: (..) -> (..).

    The memory is pinned for a GPU: an unpinned copy would first wait for the GPU's earlier work.
    """
    return (numbers.pin_memory() if device.type == "cuda" else numbers).to(device, non_blocking=True)


def may_ask(x: Tensor) -> bool:
    """Say whether Python can read a tensor's values without waiting: (..) -> bool.

    On any device but a CPU, reading a value waits for all earlier work of the device.
    """
    return x.device.type == "cpu"


def moved(record: T, device: torch.device) -> T:
    """Return a copy of a dataclass with its tensors `sent` to a device."""
    fresh: Any = record
    tensors = {f.name: value for f in fields(fresh) if isinstance(value := getattr(record, f.name), Tensor)}
    made: T = replace(fresh, **{name: sent(tensor, device) for name, tensor in tensors.items()})
    return made


def runs_of(seats: Sequence[int], counts: Sequence[int]) -> Runs:
    """Return runs of equal seats, where entry i counts for counts[i] things."""
    runs: list[tuple[int, int, int]] = []
    at = 0
    for seat, count in zip(seats, counts, strict=True):
        if runs and runs[-1][0] == seat:
            runs[-1] = (seat, runs[-1][1], at + count)
        elif count:
            runs.append((seat, at, at + count))
        at += count
    return tuple(runs)


def pack(
    examples: Sequence[Example],
    seats: Sequence[int] | None = None,
    reserve: Sequence[int] | int = 0,
    shift: Sequence[int] | int = 0,
    group: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> Batch:
    """Pack examples one after another into a Batch, grouped by seat.

    reserve: number of rows in front of each example for its cue's own vectors. shift: added to the positions
    of each example's text rows. For both, a single number holds for every example. group: the question of
    each example (default: each its own). Raises BatchError without examples, and for one without tokens.
    """
    if not examples:
        raise BatchError("no examples came to make a batch of; give at least one")
    empty = [i for i, example in enumerate(examples) if not len(example.token)]
    if empty:
        raise BatchError(
            f"example {empty[0]} has no tokens; expected at least the special tokens of its template"
        )
    count = len(examples)
    seats = [0] * count if seats is None else seats
    reserve = [reserve] * count if isinstance(reserve, int) else reserve
    shift = [shift] * count if isinstance(shift, int) else shift
    group = range(count) if group is None else group
    order = sorted(range(count), key=lambda i: seats[i])
    chosen = [(examples[i], reserve[i], shift[i]) for i in order]
    lengths = tuple(len(e.token) + r for e, r, _ in chosen)
    placed = list(zip(chosen, accumulate(lengths, initial=0), strict=False))
    numbers: dict[Any, int] = {}
    keys = [(tuple(e.token), tuple(e.segment), tuple(e.special), r, s) for e, r, s in chosen]
    tensors = _together(
        device,
        token=_joined(chain((0,) * r, e.token) for e, r, _ in chosen),
        position=_joined(chain(range(r), range(s, s + len(e.token))) for e, r, s in chosen),
        segment=_joined(chain((0,) * r, e.segment) for e, r, _ in chosen),
        index=_joined(range(n) for n in lengths),
        special=_ragged([[at + r + i for i in e.special] for (e, r, _), at in placed]),
        reserved=_ragged([range(at, at + r) for (_, r, _), at in placed]),
        owner=_joined([i] * n for i, n in enumerate(lengths)),
        word=_joined([at + r + i for i in e.word] for (e, r, _), at in placed),
        seat=[seats[i] for i in order],
        group=[group[i] for i in order],
    )
    return Batch(
        **{
            name: tensor.view(count, -1) if name in ("special", "reserved") else tensor
            for name, tensor in tensors.items()
        },
        lengths=lengths,
        words=tuple(len(e.word) for e, _, _ in chosen),
        seats=tuple(seats[i] for i in order),
        groups=tuple(group[i] for i in order),
        order=tuple(order),
        texts=tuple(numbers.setdefault(key, len(numbers)) for key in keys),
        reach=max(max(r, s + len(e.token)) for e, r, s in chosen),
    )


def _joined(parts: Iterable[Iterable[int]]) -> list[int]:
    return list(chain.from_iterable(parts))


def _ragged(rows: Sequence[Sequence[int]]) -> list[int]:
    """Return all rows in one list, each filled up with -1 to the longest."""
    width = max(map(len, rows))
    return _joined(chain(row, (-1,) * (width - len(row))) for row in rows)


def _together(device: torch.device | str, **lists: list[int]) -> dict[str, Tensor]:
    """Return a tensor of each list, cut from one tensor that is made and moved as a whole.

    Making ten tensors separately takes longer than the attention of one layer.
    """
    whole = sent(torch.tensor(_joined(lists.values()), dtype=torch.long), torch.device(device))
    return dict(zip(lists, whole.split([len(numbers) for numbers in lists.values()]), strict=True))
