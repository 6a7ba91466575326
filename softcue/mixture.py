"""Mixture: a cue that holds others, so that one forward serves adapters of different methods and shapes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from softcue.batch import may_ask, sent
from softcue.protocol import Context, Cue, Prefix


@dataclass(frozen=True)
class Member:
    """One cue's share of a forward."""

    cue: Cue
    examples: Tensor  # (b,) its examples in the whole batch
    ctx: Context


class Mixture(Cue):
    """Serves each seat by one of `cues`, under that cue's own seat number.

    table[seat] = (cue, seat of the cue).
    """

    def __init__(self, cues: Sequence[Cue], table: Sequence[tuple[int, int]]) -> None:
        nn.Module.__init__(self)  # it has no config and no seats of its own
        self.cues = nn.ModuleList(cues)
        self.table = list(table)

    def cue_of(self, seat: int) -> Cue:
        """Return the cue that serves `seat`; its reserve and shift are what pack() needs."""
        return self.cue(self.table[seat][0])

    def cue(self, number: int) -> Cue:
        """Return the cue of this number."""
        cue = self.cues[number]
        assert isinstance(cue, Cue)
        return cue

    def first_touched(self, seat: int) -> int:
        """Return what the cue that serves `seat` says of its own seat."""
        number, own = self.table[seat]
        return self.cue(number).first_touched(own)

    def members(self, ctx: Context) -> list[Member]:
        """Return each cue present with its part of the batch; found once per forward pass."""
        if ctx.memory is None:
            ctx.memory = [
                self._member(number, ctx)
                for number in sorted({self.table[seat][0] for seat in ctx.batch.seats})
            ]
        members: list[Member] = ctx.memory
        return members

    def _member(self, number: int, ctx: Context) -> Member:
        batch = ctx.batch
        examples = [i for i, seat in enumerate(batch.seats) if self.table[seat][0] == number]
        seats = [self.table[batch.seats[i]][1] for i in examples]
        whole = len(examples) == len(batch) and tuple(seats) == batch.seats
        cue = self.cue_of(batch.seats[examples[0]])
        part = batch if whole else batch.part(examples, seats)
        return Member(cue, sent(torch.tensor(examples), batch.device), Context(part, watch=ctx.watch))

    def rate_shares(self) -> dict[str, float]:
        """Return each cue's shares, under the names that its parameters have here."""
        cues = [(number, cue) for number, cue in enumerate(self.cues) if isinstance(cue, Cue)]
        return {
            f"cues.{number}.{name}": share
            for number, cue in cues
            for name, share in cue.rate_shares().items()
        }

    def on_words(self, word: Tensor, ctx: Context) -> Tensor:
        """Call each member on its own rows: (N, E) -> (N, E)."""
        for member in self.members(ctx):
            word = member.cue.on_words(word, member.ctx)
        return word

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """Call each member on its own rows: (N, D) -> (N, D)."""
        for member in self.members(ctx):
            hidden = member.cue.before_layer(layer, hidden, member.ctx)
        return hidden

    def prefix(self, layer: int, hidden: Tensor, ctx: Context) -> Prefix | None:
        """Join the members' prefixes in one, padded to the longest: (N, D) -> Prefix or None."""
        members = self.members(ctx)
        prefixes = [member.cue.prefix(layer, hidden, member.ctx) for member in members]
        if len(members) == 1:
            return prefixes[0]
        present = [(m, p) for m, p in zip(members, prefixes, strict=True) if p is not None]
        return _join(present, len(ctx.batch)) if present else None

    def on_affine(self, layer: int, site: str, x: Tensor, y: Tensor, ctx: Context) -> Tensor:
        """Call each member on its own rows, or examples for the pooler: (M, I), (M, O) -> (M, O)."""
        for member in self.members(ctx):
            if site not in member.cue.edited(member.ctx):
                continue
            own = member.examples if site == "pooler" else member.ctx.batch.rows
            if own is None or len(member.ctx.batch) == len(ctx.batch):
                y = member.cue.on_affine(layer, site, x, y, member.ctx)
                continue
            edited = member.cue.on_affine(
                layer, site, x.index_select(0, own), y.index_select(0, own), member.ctx
            ).to(y.dtype)
            # in place where there is no backward pass: a copy of all rows takes longer than the edit
            y = y.index_copy(0, own, edited) if torch.is_grad_enabled() else y.index_copy_(0, own, edited)
        return y

    def penalty(self, ctx: Context) -> Tensor:
        """Return what the members add to the loss of each example: (B,)."""
        total = torch.zeros(len(ctx.batch), device=ctx.batch.device)
        for member in self.members(ctx):
            for loss in member.ctx.losses:
                total = total.index_add(0, member.examples, loss.float())
        return total

    def edited(self, ctx: Context) -> frozenset[str]:
        """Return what any member present edits."""
        return frozenset().union(*(member.cue.edited(member.ctx) for member in self.members(ctx)))


def _join(present: list[tuple[Member, Prefix]], examples: int) -> Prefix:
    """Join prefixes into one for the whole batch; each member's rescore applies to its own examples."""
    first = present[0][1].key
    longest = max(prefix.key.shape[1] for _, prefix in present)
    key = first.new_zeros(examples, longest, *first.shape[2:])
    value = torch.zeros_like(key)
    length = torch.zeros(examples, dtype=torch.long, device=first.device)
    for member, prefix in present:
        count = prefix.key.shape[1]
        column = torch.arange(count, device=first.device)
        key.index_put_((member.examples[:, None], column), prefix.key.to(key.dtype))
        value.index_put_((member.examples[:, None], column), prefix.value.to(key.dtype))
        length.index_fill_(0, member.examples, count)
    if all(prefix.rescore is None for _, prefix in present):
        return Prefix(key, value, None, length)

    def rescore(logit: Tensor, example: Tensor) -> Tensor:
        added = torch.zeros_like(logit, dtype=torch.float32)
        for member, prefix in present:
            if prefix.rescore is None:
                continue
            here = example[:, None] == member.examples
            mine, count = here.any(1), prefix.key.shape[1]
            # all: some for nothing
            hit = mine.nonzero()[:, 0] if may_ask(mine) else torch.arange(len(example), device=mine.device)
            own = torch.zeros_like(logit[hit], dtype=torch.float32)
            own[..., :count] = prefix.rescore(logit[hit][..., :count], here[hit].int().argmax(1))
            chosen = torch.where(mine[hit].view(-1, *[1] * (own.dim() - 1)), own, added[hit])
            added.index_copy_(0, hit, chosen)
        return added

    return Prefix(key, value, rescore, length)
