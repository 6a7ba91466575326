"""Heads: hidden states to logits and per-example losses; axis 0 of every parameter is the seat axis."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from softcue.batch import Batch, Reads, sent
from softcue.kernels.dropout import dropout
from softcue.kinds import KINDS, Kind
from softcue.kinds.base import READS_WORDS
from softcue.rows import per_seat

# pooler and front: the checkpoint's own pooler on [CLS], and on the first row of the example, a prompt's
# where there is one (as transformers' classifiers read a prompted text)
POOLINGS = ("cls", "mean", "pooler", "front")
THROUGH_POOLER = ("pooler", "front")
CERTAIN = 1e-6  # chance of an error below which the focal loss falls no further


def pool(hidden: Tensor, batch: Batch, pooling: str, pooled: Tensor | None) -> Tensor:
    """Return one vector per example: (N, D) -> (B, D) float32.

    `mean` counts text and special rows, never reserved ones.

    pooled: (B, D), what the checkpoint's own pooler gave, for THROUGH_POOLER.
    """
    if pooling in THROUGH_POOLER:
        assert pooled is not None
        return pooled.float()
    if pooling == "cls":
        return hidden.index_select(0, batch.special[:, 0]).float()
    text = batch.is_text.unsqueeze(-1).float()
    zeros = torch.zeros(len(batch), hidden.shape[-1], device=hidden.device)
    total = zeros.index_add(0, batch.owner, batch.take(hidden).float() * text)
    return total / zeros[:, :1].index_add(0, batch.owner, text)


class Head(nn.Module):
    """A linear map from hidden states to logits for each seat; what they mean is its kind's.

    `classes` may differ by seat, masked to the largest, C.
    """

    classes: Tensor  # (A,) labels of each seat
    class_weight: Tensor | None  # (A, C)
    focal: Tensor | None  # (A,)

    def __init__(
        self, kind: str, hidden: int, classes: Sequence[int], pooling: str, dropout: float = 0.1
    ) -> None:
        """Begin with random weights.

        classes: labels of each seat. dropout: before the linear map, while training, as in every published
        recipe.
        """
        super().__init__()
        self.kind, self.pooling, self.dropout = kind, pooling, dropout
        self.weight = nn.Parameter(torch.randn(len(classes), max(classes), hidden) * 0.02)
        self.bias = nn.Parameter(torch.zeros(len(classes), max(classes)))
        self.register_buffer("classes", torch.tensor(classes, dtype=torch.long), persistent=False)
        # by seat and class, and by seat: see `emphasise`; none: all examples count alike
        self.register_buffer("class_weight", None, persistent=False)
        self.register_buffer("focal", None, persistent=False)

    @property
    def own(self) -> Kind:
        """The kind of task."""
        return KINDS[self.kind]

    @property
    def reads_words(self) -> bool:
        """Whether it gives logits for each word."""
        return self.own.reads == READS_WORDS

    @property
    def reads(self) -> Reads:
        """The rows of each example that are read."""
        if self.reads_words:
            return "words"
        return "all" if self.pooling in ("mean", "front") else "first"

    def forward(self, hidden: Tensor, batch: Batch, pooled: Tensor | None) -> Tensor:
        """Return logits in float32: (N, D) -> (B, C); (W, C) of words, (B,) where a seat has no labels."""
        return self.logits(self.feature(hidden, batch, pooled), batch)

    def feature(self, hidden: Tensor, batch: Batch, pooled: Tensor | None) -> Tensor:
        """Return the vectors that the linear map reads: (N, D) -> (B, D) float32.

        One per example, or the row of every word's first token (W, D).
        """
        if self.reads_words:
            return hidden.index_select(0, batch.word).float()
        return pool(hidden, batch, self.pooling, pooled)

    def rows(self, batch: Batch) -> Sequence[int]:
        """Return how many vectors of feature() each example has."""
        return batch.words if self.reads_words else [1] * len(batch)

    def logits(self, feature: Tensor, batch: Batch) -> Tensor:
        """Return the logits of what feature() returned: (B, D) -> (B, C)."""
        if self.reads_words:
            return self.linear(feature, batch.seat[self.owner(batch)], batch.word_runs)
        logits = self.linear(feature, batch.seat, batch.runs)
        return logits if self.own.has_labels else logits.squeeze(-1)

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

    @staticmethod
    def owner(batch: Batch) -> Tensor:
        """Return the example that each word belongs to: (W,)."""
        return sent(torch.repeat_interleave(torch.tensor(batch.words)), batch.device)

    def target(self, values: Sequence[Any], batch: Batch) -> Tensor:
        """Return what the batch should give, from one value per example in the order of the request."""
        return sent(self.own.target(values, batch, self.bias.shape[1]), batch.device)

    def emphasise(self, seat: int, weight: Tensor, focal: float) -> None:
        """Let examples of a seat count by their class, and less where they are answered right: (C,).

        The loss of an example is w (1 - p)^focal -log p, p the chance of its class and w its weight, in a
        mean over the weights, as torch's cross-entropy takes it. Targets must be class numbers.
        """
        if self.class_weight is None or self.focal is None:
            self.class_weight = torch.ones_like(self.bias, requires_grad=False)
            self.focal = torch.zeros_like(self.class_weight[:, 0])
        self.class_weight[seat, : len(weight)] = weight.to(self.class_weight)
        self.focal[seat] = focal

    def loss(self, logits: Tensor, target: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each example's summed loss and its count, for means by seat: (B, C), (B,) -> (B,), (B,)."""
        losses, counts = self.own.loss(logits, target, batch)
        if self.class_weight is not None and self.focal is not None:
            seat = batch.seat[self.owner(batch)] if self.reads_words else batch.seat
            counts = counts * self.class_weight[seat, target.clamp(min=0)]
            # above 0, or the slope of a power of 0 would be no number
            missed = (-torch.expm1(-losses)).clamp(min=CERTAIN)
            losses = losses * counts * missed ** self.focal[seat]
        if not self.reads_words:
            return losses, counts
        zeros, owner = losses.new_zeros(len(batch)), self.owner(batch)
        return zeros.index_add(0, owner, losses), zeros.index_add(0, owner, counts)

    def blind_loss(self, questions: Sequence[Sequence[Any]]) -> float:
        """Return the least mean loss of an answer that is the same for all questions, of one seat.

        questions: the targets of each one's examples.
        """
        return self.own.blind_loss(questions, self.bias.shape[1])

    def answers(self, logits: Tensor, batch: Batch) -> list[tuple[int, Tensor]]:
        """Return the number of each question and its answer on the host.

        (B, C) -> numbers, each with (C,), or what the kind gives.
        """
        return self.own.answers(logits, batch)
