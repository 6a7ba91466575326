"""score: gives a text or a pair of texts a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from softcue.errors import RequestError
from softcue.kinds.base import Fields, Kind, Tally, register_kind
from softcue.kinds.record import QuestionParts, Reading, Record

if TYPE_CHECKING:
    from torch import Tensor

    from softcue.batch import Batch
    from softcue.text.tokens import Text


class Score(Kind):
    """Predicts a number; targets and answers, (), are standardised by the training rows."""

    name = "score"
    order = 1
    numeric = True
    has_labels = False
    metrics = ("pearson", "spearman")
    activation = None
    outputs = (("value", "FP32", [-1]),)

    def parse(self, row: Fields) -> dict[str, Any]:
        """Return the text, the second text and the label."""
        return {"text": row.text(), "pair": row.pair(), "label": row.label()}

    def reading(
        self, labels: tuple[str, ...], train: Sequence[Record], limit: int, text: Text, source: str
    ) -> Reading:
        """Return a reading with the mean and the standard deviation of the training rows."""
        import torch

        known = [float(record.label) for record in train if record.label is not None]
        values = torch.tensor(known, dtype=torch.float64)
        centre = float(values.mean())
        spread = float(values.std(correction=0)) or 1.0  # 1 if all scores are equal
        if not (math.isfinite(centre) and math.isfinite(spread)):
            raise RequestError(
                f"{source} has scores up to {float(values.abs().max()):g}; their standard deviation is not a "
                "finite number: rescale the scores"
            )
        return Reading(self.name, (), limit, centre, spread)

    def targets(self, record: Record, reading: Reading, number: Mapping[str, int]) -> tuple[Any, ...]:
        """Return the standardised score."""
        value = float(record.label) if record.label is not None else reading.centre
        return ((value - reading.centre) / reading.spread,)

    def loss(self, logits: Tensor, target: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the squared error of each example, and its count: (B,), (B,) -> (B,), (B,)."""
        return (logits - target.float()).square(), logits.new_ones(logits.shape)

    def blind_loss(self, questions: Sequence[Sequence[Any]], classes: int) -> float:
        """Return the variance of the targets."""
        values = [targets[0] for targets in questions]
        mean = math.fsum(values) / len(values)
        return math.fsum((value - mean) ** 2 for value in values) / len(values)

    def answers(self, logits: Tensor, batch: Batch) -> list[tuple[int, Tensor]]:
        """Return standardised scores, () each: (B,) -> numbers with ()."""
        return list(zip(batch.groups, logits.cpu(), strict=True))

    def say(self, answer: Tensor, question: QuestionParts) -> dict[str, Any]:
        """Return the number as value, on the scale of the labels: ()."""
        return {"value": self.decide(answer, question.reading)}

    def decide(self, answer: Tensor, reading: Reading) -> float:
        """Return the number on the scale of the labels: ()."""
        return float(answer) * reading.spread + reading.centre

    def tally(self, gold: Sequence[Any], predicted: Sequence[Any], labels: Sequence[str]) -> Tally | None:
        """Return None, because numbers have no labels."""
        return None

    def errors(self, gold: Sequence[Any], predicted: Sequence[Any]) -> dict[str, float]:
        """Return the mean absolute error and the root mean squared error."""
        errors = [abs(a - b) for a, b in zip(gold, predicted, strict=True)]
        rms = math.sqrt(sum(error**2 for error in errors) / len(errors))
        return {"mean_absolute_error": sum(errors) / len(errors), "root_mean_square_error": rms}

    def scored(
        self, value: dict[str, Any], choices: Sequence[str], scale: Callable[[float], float]
    ) -> list[Any]:
        """Return the number as the score of a label named `value`."""
        return [{"score": value["value"], "label": "value"}]

    def tensors(self, values: Sequence[dict[str, Any]]) -> list[list[Any]]:
        """Return the numbers."""
        return [[value["value"] for value in values]]


register_kind(Score())
