"""Model: runs an encoder with cues and heads, from a Batch to an Output."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from softcue.batch import Batch, Example, pack, sent
from softcue.encoder.affine import edits
from softcue.encoder.core import Encoder
from softcue.encoder.fan_out import fan_out, home, shared_levels
from softcue.heads import THROUGH_POOLER, Head
from softcue.mixture import Mixture
from softcue.protocol import Context, Cue


class Assignment(NamedTuple):
    """Says where an adapter's parameters are: the indices of its cue and head, and its seat in each."""

    cue: int
    cue_seat: int
    head: int
    head_seat: int


VACANT = Assignment(-1, -1, -1, -1)  # of a seat without an adapter


@dataclass(frozen=True)
class HeadOutput:
    """What one head computed from its examples."""

    head: Head
    batch: Batch  # the head's own examples, with the head's own seat indices
    examples: Tensor  # (b,) their indices in the whole batch
    feature: Tensor  # (b, D) the input of the head's linear layer; (W, D) for words
    logits: Tensor  # (b, C); for other shapes see the head


@dataclass(frozen=True)
class Output:
    """The results of one forward pass."""

    parts: tuple[HeadOutput, ...]
    penalty: Tensor  # (B,) what the cues add to each example's loss


class Model(nn.Module):
    """Runs one shared encoder with many adapters; the adapter of seat s in a batch is places[s]."""

    def __init__(
        self, encoder: Encoder, cues: Sequence[Cue], heads: Sequence[Head], places: Sequence[Assignment]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.mixture = Mixture(cues, [(place.cue, place.cue_seat) for place in places])
        self.heads = nn.ModuleList(heads)
        self.places = list(places)

    def seat(self, number: int, place: Assignment) -> None:
        """Assign an adapter to a seat of the batch; VACANT empties the seat.

        Missing seats up to this one are added, empty.
        """
        while number >= len(self.places):
            self.places.append(VACANT)
            self.mixture.table.append(VACANT[:2])
        self.places[number], self.mixture.table[number] = place, (place.cue, place.cue_seat)

    @staticmethod
    def single(encoder: Encoder, cue: Cue, head: Head, adapters: int = 1) -> "Model":
        """Return a model with one cue and one head, which use the same seat indices."""
        return Model(encoder, [cue], [head], [Assignment(0, seat, 0, seat) for seat in range(adapters)])

    def pack(
        self, examples: Sequence[Example], seats: Sequence[int], group: Sequence[int] | None = None
    ) -> Batch:
        """Pack examples into a Batch, with the reserved rows and the shift of their seats' cues.

        seats: each example's seat. group: each example's question (default: each its own). Within a seat the
        longest example comes first.
        """
        # attention's buckets take the longest examples first: then no example has to move again
        by_length = sorted(range(len(examples)), key=lambda i: -len(examples[i].token))
        cue_of = {seat: self.mixture.cue_of(seat) for seat in set(seats)}
        cues = [cue_of[seats[i]] for i in by_length]
        numbers = list(range(len(examples))) if group is None else group
        batch = pack(
            [examples[i] for i in by_length],
            [seats[i] for i in by_length],
            [cue.reserve for cue in cues],
            [cue.shift for cue in cues],
            [numbers[i] for i in by_length],
            self.device,
        )
        return replace(batch, order=tuple(by_length[i] for i in batch.order))

    @property
    def device(self) -> torch.device:
        """The device of the encoder."""
        return next(self.encoder.parameters()).device

    def serve(self) -> None:
        """Convert the cues' parameters to the encoder's precision.

        In bfloat16 they then take half the memory, and a forward pass need not convert them.
        """
        self.hold(self.mixture)

    def hold(self, cue: nn.Module) -> None:
        """Convert a cue's parameters to the encoder's precision."""
        dtype = next(self.encoder.parameters()).dtype
        for parameter in cue.parameters():
            parameter.data = parameter.data.to(dtype)

    def forward(self, batch: Batch) -> Output:
        """Run a batch with any mix of seats through the encoder, its cues and its heads."""
        shares = self._shares(batch)
        heads = [self.head(number) for number, _, _ in shares]
        hidden, pooled, penalty = self._encoded(batch, heads)
        parts = []
        for number, examples, part in shares:
            head, own = self.head(number), None if pooled is None else pooled[examples]
            feature = head.feature(hidden, part, own)
            parts.append(HeadOutput(head, part, examples, feature, head.logits(feature, part)))
        return Output(tuple(parts), penalty)

    def feature(self, batch: Batch) -> Tensor:
        """Return the input of the only head's linear layer: (M, D) float32."""
        hidden, pooled, _ = self._encoded(batch, [self.head(0)])
        return self.head(0).feature(hidden, batch, pooled)

    def _encoded(self, batch: Batch, heads: Sequence[Head]) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return hidden states (N, D), the pooler's outputs (B, D) or None, and penalties (B,).

        Without gradients, a text that several adapters read is computed only once in the layers below the
        lowest one that they change.
        """
        reads = {head.reads for head in heads}
        asked = reads.pop() if len(reads) == 1 else "all"
        pools = any(head.pooling in THROUGH_POOLER and head.reads != "words" for head in heads)
        levels = None if torch.is_grad_enabled() or self.training else shared_levels(batch, self.mixture)
        if levels is None:
            hidden, ctx = self.encoder(batch, self.mixture, reads=asked)
            return hidden, self._pooled(hidden, ctx) if pools else None, self.mixture.penalty(ctx)
        parts = []
        for branch in fan_out(self.encoder, batch, self.mixture, levels, asked):
            own = self._pooled(branch.hidden, branch.ctx) if pools else None
            parts.append((branch, own, self.mixture.penalty(branch.ctx)))
        example = home([branch.examples for branch, _, _ in parts], [1] * len(batch), batch.device)
        row = home([branch.examples for branch, _, _ in parts], batch.lengths, batch.device)
        hidden = torch.cat([branch.hidden for branch, _, _ in parts]).index_select(0, row)
        pooled = torch.cat([own for _, own, _ in parts if own is not None]) if pools else None
        penalty = torch.cat([penalty for _, _, penalty in parts])
        return (
            hidden,
            None if pooled is None else pooled.index_select(0, example),
            penalty.index_select(0, example),
        )

    def _pooled(self, hidden: Tensor, ctx: Context) -> Tensor:
        """Return the pooler's output for [CLS], or for the first row: (N, D) -> (B, D)."""
        batch = ctx.batch
        row = batch.special[:, 0]
        if any(head.pooling == "front" for head in self.heads):
            front = torch.tensor([self._pools_front(seat) for seat in batch.seats])
            row = torch.where(sent(front, batch.device), batch.front, row)
        return self.encoder.pool(
            hidden.index_select(0, row), edits(self.mixture, len(self.encoder.layers) - 1, ctx)
        )

    def _pools_front(self, seat: int) -> bool:
        return self.head(self.places[seat].head).pooling == "front"

    def head(self, number: int) -> Head:
        """Return the head with this index."""
        head = self.heads[number]
        assert isinstance(head, Head)
        return head

    def _shares(self, batch: Batch) -> list[tuple[int, Tensor, Batch]]:
        """Return the index, the examples and the part of the batch of each head that the batch needs."""
        shares = []
        places = [self.places[seat] for seat in batch.seats]
        for number in sorted({place.head for place in places}):
            examples = [i for i, place in enumerate(places) if place.head == number]
            seats = [places[i].head_seat for i in examples]
            whole = len(examples) == len(batch) and tuple(seats) == batch.seats
            part = batch if whole else batch.part(examples, seats)
            shares.append((number, sent(torch.tensor(examples), batch.device), part))
        return shares

    def tuned(self) -> list[nn.Parameter]:
        """Return the parameters that training changes: the cues', the heads' and an unfrozen encoder's."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def rate_shares(self) -> list[float | None]:
        """Return the factor on the job's learning rate for each parameter of tuned().

        It is None for a head's parameter: each job sets that factor itself.
        """
        shares: dict[int, float | None] = dict.fromkeys(map(id, self.heads.parameters()))
        shares |= {
            id(self.mixture.get_parameter(name)): share for name, share in self.mixture.rate_shares().items()
        }
        return [shares.get(id(parameter), 1.0) for parameter in self.tuned()]
