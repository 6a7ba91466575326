"""classify: gives a text or a pair of texts one label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from softcue.kinds.base import Fields, Kind, best_first, register_kind
from softcue.kinds.record import IGNORED, QuestionParts, Reading, Record

if TYPE_CHECKING:
    from torch import Tensor


class Classify(Kind):
    """Chooses one of several labels; a target is a class number, an answer is probabilities (C,)."""

    name = "classify"
    order = 0
    metrics = ("accuracy", "macro_f1")
    calibrated = True
    outputs = (("label", "BYTES", [-1]), ("probabilities", "FP32", [-1, -1]), ("labels", "BYTES", [-1]))

    def parse(self, row: Fields) -> dict[str, Any]:
        """Return the text, the second text and the label."""
        return {"text": row.text(), "pair": row.pair(), "label": row.label()}

    def targets(self, record: Record, reading: Reading, number: Mapping[str, int]) -> tuple[Any, ...]:
        """Return the label's class number."""
        return (number.get(str(record.label), IGNORED),)

    def say(self, answer: Tensor, question: QuestionParts) -> dict[str, Any]:
        """Return the label, its probability as score, and all probabilities as scores: (C,)."""
        labels = question.reading.labels
        chances = dict(zip(labels, answer[: len(labels)].tolist(), strict=True))
        best = max(chances, key=lambda label: chances[label])
        return {"label": best, "score": chances[best], "scores": chances}

    def decide(self, answer: Tensor, reading: Reading) -> str:
        """Return the most probable label: (C,)."""
        return reading.labels[int(answer[: len(reading.labels)].argmax())]

    def scored(
        self, value: dict[str, Any], choices: Sequence[str], scale: Callable[[float], float]
    ) -> list[Any]:
        """Return every label with its score."""
        return best_first(value["scores"], scale)

    def one_label(self, value: dict[str, Any]) -> tuple[str, list[float]]:
        """Return the label and all probabilities."""
        return value["label"], list(value["scores"].values())

    def tensors(self, values: Sequence[dict[str, Any]]) -> list[list[Any]]:
        """Return the labels, the probabilities row by row, and the names of all labels."""
        labels = list(values[0]["scores"])
        flat = [value["scores"][label] for value in values for label in labels]
        return [[value["label"] for value in values], flat, labels]


register_kind(Classify())
