"""One text for many adapters: the layers that none of them touches are computed on one copy of its rows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from softcue.batch import Batch, Reads, sent
from softcue.encoder.core import Encoder
from softcue.protocol import Context, Cue, Silent


class Branch(NamedTuple):
    """Examples that ran through the layers together, as a batch of their own."""

    examples: list[int]  # their numbers in the whole batch
    hidden: Tensor  # (N, D) of their own rows, after the last layer
    ctx: Context


def shared_levels(batch: Batch, cue: Cue) -> list[int] | None:
    """Return for each example how many layers it shares with others of its text; None where none does."""
    if len(set(batch.texts)) == len(batch):
        return None
    first = {seat: cue.first_touched(seat) for seat in set(batch.seats)}
    touched = [first[seat] for seat in batch.seats]
    above = Counter(text for text, layer in zip(batch.texts, touched, strict=True) if layer > 0)
    levels = [layer if above[text] > 1 else 0 for text, layer in zip(batch.texts, touched, strict=True)]
    return levels if any(levels) else None


def fan_out(
    encoder: Encoder, batch: Batch, cue: Cue, levels: Sequence[int], reads: Reads
) -> Iterator[Branch]:
    """Yield the examples of a batch in branches, those that leave the shared layers together.

    The trunk is one copy of each shared text, which no cue sees. At each level the examples whose adapters
    touch the next layer leave it with copies of their text's rows. Those that share nothing are a branch from
    the start. levels: what shared_levels returned. Raises BatchError as the encoder does.
    """
    encoder.check(batch)
    apart = [i for i, level in enumerate(levels) if level == 0]
    if apart:
        own = batch.alone(apart)
        yield Branch(apart, *encoder(own, cue, reads=reads))
    trunk_of = {batch.texts[i]: i for i, level in enumerate(levels) if level}  # of each text any example
    texts = list(trunk_of)
    trunk = Context(batch.alone(list(trunk_of.values())))
    silent = Silent()
    hidden, done = encoder.embedded(silent, trunk), 0
    for level in sorted(set(levels) - {0}):
        # rows of words differ between the copies of a text, that of [CLS] does not
        hidden = encoder.through(
            range(done, level), hidden, silent, trunk, reads="first" if reads == "first" else "all"
        )
        done = level
        leaving = [i for i, own_level in enumerate(levels) if own_level == level]
        ctx = Context(batch.alone(leaving))
        places = [texts.index(batch.texts[i]) for i in leaving]
        copied = hidden.index_select(0, rows_of(places, trunk.batch.lengths, batch.device))
        rest = range(level, len(encoder.layers))
        yield Branch(leaving, encoder.through(rest, copied, cue, ctx, reads=reads), ctx)
        staying = sorted({texts.index(batch.texts[i]) for i, own in enumerate(levels) if own > level})
        if staying and len(staying) < len(texts):
            hidden = hidden.index_select(0, rows_of(staying, trunk.batch.lengths, batch.device))
            trunk = Context(trunk.batch.alone(staying))
            texts = [texts[place] for place in staying]


def rows_of(examples: Sequence[int], lengths: Sequence[int], device: torch.device) -> Tensor:
    """Return the rows of some examples of a batch with these lengths, one example after another: (M,)."""
    starts = [0, *accumulate(lengths)]
    return sent(torch.tensor([row for i in examples for row in range(starts[i], starts[i + 1])]), device)


def home(branches: Sequence[Sequence[int]], lengths: Sequence[int], device: torch.device) -> Tensor:
    """Return where each row of the whole batch stands in branches that lie end to end: (N,).

    branches: the examples of each; lengths: rows of each example of the whole batch, or 1 for the examples
    themselves.
    """
    order = [i for examples in branches for i in examples]
    place = {example: at for at, example in enumerate(order)}
    return rows_of([place[i] for i in range(len(lengths))], [lengths[i] for i in order], device)
