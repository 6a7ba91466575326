"""Heads: hidden states to logits and per-example losses; axis 0 of every parameter is the seat axis."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softcue.batch import Batch, Reads, sent
from softcue.kernels.dropout import dropout
from softcue.rows import per_seat

POOLINGS = ("cls", "mean", "pooler")
IGNORED = -100  # a word without a label that train knows


def pool(hidden: Tensor, batch: Batch, pooling: str, pooled: Tensor | None) -> Tensor:
    """Return one vector per example: (N, D) -> (B, D) float32.

    `mean` counts text and special rows, never reserved ones.

    pooled: (B, D), the checkpoint's own pooler on [CLS], for pooling "pooler".
    """
    if pooling == "pooler":
        assert pooled is not None
        return pooled.float()
    if pooling == "cls":
        return hidden.index_select(0, batch.special[:, 0]).float()
    text = batch.is_text.unsqueeze(-1).float()
    zeros = torch.zeros(len(batch), hidden.shape[-1], device=hidden.device)
    total = zeros.index_add(0, batch.owner, batch.take(hidden).float() * text)
    return total / zeros[:, :1].index_add(0, batch.owner, text)


class Head(nn.Module):
    """A linear map from hidden states to logits for each seat.

    `classes` may differ by seat, masked to the largest, C.
    """

    registry: ClassVar[dict[str, type["Head"]]] = {}
    kind: ClassVar[str]
    classes: Tensor  # (A,) labels of each seat

    def __init_subclass__(cls, kind: str) -> None:
        super().__init_subclass__()
        cls.kind = kind
        Head.registry[kind] = cls

    def __init__(self, hidden: int, classes: Sequence[int], pooling: str, dropout: float = 0.1) -> None:
        """Begin with random numbers.

        classes: labels of each seat. dropout: before the linear map, while training, as in every published
        recipe.
        """
        super().__init__()
        self.pooling, self.dropout = pooling, dropout
        self.weight = nn.Parameter(torch.randn(len(classes), max(classes), hidden) * 0.02)
        self.bias = nn.Parameter(torch.zeros(len(classes), max(classes)))
        self.register_buffer("classes", torch.tensor(classes, dtype=torch.long), persistent=False)

    @property
    def reads(self) -> Reads:
        """The rows of each example that are read."""
        return "all" if self.pooling == "mean" else "first"

    def forward(self, hidden: Tensor, batch: Batch, pooled: Tensor | None) -> Tensor:
        """Return logits in float32: (N, D) -> (B, C); (W, C) for tags, (B,) for scores and choices."""
        return self.logits(self.feature(hidden, batch, pooled), batch)

    def feature(self, hidden: Tensor, batch: Batch, pooled: Tensor | None) -> Tensor:
        """Return the vectors that the linear map reads, one per example: (N, D) -> (B, D) float32."""
        return pool(hidden, batch, self.pooling, pooled)

    def rows(self, batch: Batch) -> Sequence[int]:
        """Return how many vectors of feature() each example has."""
        return [1] * len(batch)

    def logits(self, feature: Tensor, batch: Batch) -> Tensor:
        """Return the logits of what feature() returned: (B, D) -> (B, C)."""
        return self.linear(feature, batch.seat, batch.runs)

    def linear(self, feature: Tensor, seat: Tensor, runs: Any) -> Tensor:
        """Apply dropout and the map: (M, D), (M,) -> (M, C).

        Classes that a seat does not have get -inf.
        """
        feature = dropout(feature, self.dropout, self.training)
        logits = per_seat(feature, self.weight.mT, runs) + self.bias.index_select(0, seat)
        if logits.shape[-1] == 1:
            return logits
        absent = torch.arange(logits.shape[-1], device=logits.device) >= self.classes[seat].unsqueeze(-1)
        return logits.masked_fill(absent, -torch.inf)

    def target(self, values: Sequence[Any], batch: Batch) -> Tensor:
        """Return what the batch should give, from one value per example in the order of the request."""
        return sent(torch.tensor([values[i] for i in batch.order]), batch.device)

    def loss(self, logits: Tensor, target: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each example's summed loss and its count, for means by seat: (B, C), (B,) -> (B,), (B,)."""
        losses = F.cross_entropy(logits, target, reduction="none", ignore_index=IGNORED)
        return losses, (target != IGNORED).float()

    @classmethod
    def blind_loss(cls, questions: Sequence[Sequence[Any]]) -> float:
        """Return the least mean loss of an answer that is the same for all questions.

        questions: the targets of each one's examples.
        """
        counts = torch.tensor(list(Counter(cls.labels(questions)).values()), dtype=torch.float64)
        return float(torch.special.entr(counts / counts.sum()).sum())

    @staticmethod
    def labels(questions: Sequence[Sequence[Any]]) -> list[int]:
        """Return the class numbers among targets that are learnt."""
        return [target for targets in questions for target in targets if target != IGNORED]

    def answers(self, logits: Tensor, batch: Batch) -> list[tuple[int, Tensor]]:
        """Return the number of each question and its answer on the host.

        (C,) probabilities, unless the head says otherwise.
        (B, C) -> numbers with (C,).
        """
        return list(zip(batch.groups, logits.softmax(-1).cpu(), strict=True))


class ClassHead(Head, kind="classify"):
    """One label per text or pair; target: class numbers."""


class ScoreHead(Head, kind="score"):
    """A number per text or pair; target: standardised scores."""

    def logits(self, feature: Tensor, batch: Batch) -> Tensor:
        """Return standardised scores: (B, D) -> (B,)."""
        return super().logits(feature, batch).squeeze(-1)

    def loss(self, logits: Tensor, target: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the squared error of each example, and its count: (B,), (B,) -> (B,), (B,)."""
        return (logits - target.float()).square(), torch.ones_like(logits)

    @classmethod
    def blind_loss(cls, questions: Sequence[Sequence[Any]]) -> float:
        """Return the variance."""
        return float(
            torch.tensor([targets[0] for targets in questions], dtype=torch.float64).var(correction=0)
        )

    def answers(self, logits: Tensor, batch: Batch) -> list[tuple[int, Tensor]]:
        """Return standardised scores, () each.

        (B,) -> numbers with ().
        """
        return list(zip(batch.groups, logits.cpu(), strict=True))


class ChoiceHead(Head, kind="choice"):
    """A logit per choice, compared within its question; target: 1 for the right choice, 0 for the others."""

    def logits(self, feature: Tensor, batch: Batch) -> Tensor:
        """Return each choice's logit: (B, D) -> (B,)."""
        return super().logits(feature, batch).squeeze(-1)

    def loss(self, logits: Tensor, target: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return cross-entropy over the choices of each question: (B,), (B,) -> (B,), (B,).

        It is booked on the right choice.
        """
        right = target.float()
        return -within_groups(logits, batch.group, 1 + max(batch.groups)) * right, right

    @classmethod
    def blind_loss(cls, questions: Sequence[Sequence[Any]]) -> float:
        """Return the loss of equal chances for the choices of each question."""
        return sum(math.log(len(targets)) for targets in questions) / len(questions)

    def answers(self, logits: Tensor, batch: Batch) -> list[tuple[int, Tensor]]:
        """Return probabilities of the choices, in the order in which they were asked.

        (B,) -> numbers with (choices,).
        """
        chance = within_groups(logits, batch.group, 1 + max(batch.groups)).exp().cpu()
        return [(question, chance[members]) for question, members in _questions(batch).items()]


def _questions(batch: Batch) -> dict[int, list[int]]:
    """Return the examples of each question, in the order of the request."""
    questions: dict[int, list[int]] = {}
    for i in sorted(range(len(batch)), key=lambda i: batch.order[i]):
        questions.setdefault(batch.groups[i], []).append(i)
    return questions


def within_groups(logits: Tensor, group: Tensor, count: int) -> Tensor:
    """Compute log-softmax among the entries that share a group, of 0 to `count` - 1: (B,), (B,) -> (B,)."""
    peak = logits.new_full((count,), -torch.inf).scatter_reduce(0, group, logits.detach(), "amax")
    shifted = logits - peak[group]
    return shifted - logits.new_zeros(count).index_add(0, group, shifted.exp()).log()[group]


class TokenHead(Head, kind="tag"):
    """A label per word, read at its first token; target: tag numbers, one list per example."""

    reads: Reads = "words"

    def feature(self, hidden: Tensor, batch: Batch, pooled: Tensor | None) -> Tensor:
        """Return the row of every word's first token: (N, D) -> (W, D) float32."""
        return hidden.index_select(0, batch.word).float()

    def rows(self, batch: Batch) -> Sequence[int]:
        """Return the number of words of each example."""
        return batch.words

    def logits(self, feature: Tensor, batch: Batch) -> Tensor:
        """Return logits of every word: (W, D) -> (W, C)."""
        return self.linear(feature, batch.seat[self.owner(batch)], batch.word_runs)

    @staticmethod
    def labels(questions: Sequence[Sequence[Any]]) -> list[int]:
        """Return the class numbers of all words."""
        return [tag for targets in questions for tags in targets for tag in tags if tag != IGNORED]

    @staticmethod
    def owner(batch: Batch) -> Tensor:
        """Return the example that each word belongs to: (W,)."""
        return sent(torch.repeat_interleave(torch.tensor(batch.words)), batch.device)

    def target(self, values: Sequence[Any], batch: Batch) -> Tensor:
        """Return tag numbers of the words that truncation left, in the batch's order: (W,)."""
        kept = zip(batch.order, batch.words, strict=True)
        return sent(
            torch.tensor([tag for i, count in kept for tag in values[i][:count]], dtype=torch.long),
            batch.device,
        )

    def loss(self, logits: Tensor, target: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return cross-entropy summed over each example's words, and their number.

        (W, C), (W,) -> (B,), (B,).
        """
        losses, counts = super().loss(logits, target, batch)
        zeros, owner = losses.new_zeros(len(batch)), self.owner(batch)
        return zeros.index_add(0, owner, losses), zeros.index_add(0, owner, counts)

    def answers(self, logits: Tensor, batch: Batch) -> list[tuple[int, Tensor]]:
        """Return probabilities of the words' tags; of several windows of one text, one after the other.

        (W, C) -> numbers with (words, C).
        """
        chances = logits.softmax(-1).cpu().split(batch.words)
        return [
            (question, torch.cat([chances[i] for i in members]))
            for question, members in _questions(batch).items()
        ]
