"""multilabel: gives a text or a pair of texts any number of labels, or none."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from softcue.errors import short
from softcue.kinds.base import LEAST_CHANCE, Counts, Fields, Kind, Tally, best_first, in_order, register_kind
from softcue.kinds.record import QuestionParts, Reading, Record
from softcue.kinds.values import Wrong, as_list, as_text

if TYPE_CHECKING:
    from torch import Tensor

    from softcue.batch import Batch

SEPARATOR = "|"  # between the labels of a cell
# the least distance of two probabilities that a threshold may separate; batching changes answers by less
GAP = 1e-5
ONE_HOT = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


class Multilabel(Kind):
    """Chooses any number of labels; a target is the class numbers of a row's labels.

    An answer is a probability for each label, (C,). A label is given if its probability is at least the
    reading's threshold. All labels have the same threshold, the one with the highest micro-F1 on the
    selection rows: for micro-F1 the best threshold is the same for every label (Koyejo et al., 2015). A
    separate threshold would have to be chosen on the rows with its label, and rare labels have too few
    (Yang, 2001).
    """

    name = "multilabel"
    order = 4
    needs = ("text", "labels")
    mark = "labels"
    presets = "classify"
    metrics = ("micro_f1", "macro_f1", "exact_match")
    activation = "sigmoid"
    has_threshold = True
    outputs = (
        ("probabilities", "FP32", [-1, -1]),
        ("labels", "BYTES", [-1]),
        ("chosen", "BOOL", [-1, -1]),
    )

    def shows(self, value: Callable[[str], Any]) -> bool:
        """Say whether a row has the field `labels` and not the field `label`."""
        return value("labels") is not None and value("label") is None

    def parse(self, row: Fields) -> dict[str, Any]:
        """Return the text, the second text and the labels."""
        return {"text": row.text(), "pair": row.pair(), "labels": _label_set(row.value("labels"))}

    def gold(self, record: Record) -> frozenset[str]:
        """Return the labels as a set."""
        return frozenset(record.labels)

    def names_in(self, gold: Any) -> set[str]:
        """Return the labels."""
        return set(gold)

    def targets(self, record: Record, reading: Reading, number: Mapping[str, int]) -> tuple[Any, ...]:
        """Return the class numbers of the labels that the training rows have, as one tuple."""
        return (tuple(number[label] for label in record.labels if label in number),)

    def target(self, values: Sequence[Any], batch: Batch, classes: int) -> Tensor:
        """Return a 1 for each label that an example has: (B, C)."""
        import torch

        pairs = [(row, label) for row, i in enumerate(batch.order) for label in values[i]]
        truth = torch.zeros(len(batch.order), classes)
        rows, labels = torch.tensor(pairs, dtype=torch.long).view(-1, 2).unbind(1)
        truth[rows, labels] = 1.0
        return truth

    def loss(self, logits: Tensor, target: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return binary cross-entropy summed over the seat's labels, and their number: (B, C) -> (B,), (B,).

        Logits of labels that the seat does not have are -inf, and add nothing to the loss.
        """
        from torch.nn import functional as F

        absent = logits == -math.inf
        known = logits.masked_fill(absent, 0.0)
        losses = F.binary_cross_entropy_with_logits(known, target, reduction="none").masked_fill(absent, 0.0)
        return losses.sum(-1), (~absent).sum(-1).float()

    def blind_loss(self, questions: Sequence[Sequence[Any]], classes: int) -> float:
        """Return the mean entropy of the labels' frequencies."""
        counts = Counter(label for targets in questions for own in targets for label in own)
        shares = [count / len(questions) for count in counts.values() if count < len(questions)]
        return -sum(p * math.log(p) + (1 - p) * math.log1p(-p) for p in shares) / classes

    def answers(self, logits: Tensor, batch: Batch) -> list[tuple[int, Tensor]]:
        """Return a probability for each label: (B, C) -> numbers with (C,)."""
        return list(zip(batch.groups, logits.sigmoid().cpu(), strict=True))

    def say(self, answer: Tensor, question: QuestionParts) -> dict[str, Any]:
        """Return the given labels, and all probabilities as scores, in the order of the labels: (C,)."""
        reading = question.reading
        chances = dict(zip(reading.labels, answer[: len(reading.labels)].tolist(), strict=True))
        return {
            "labels": [label for label, chance in chances.items() if chance >= reading.threshold],
            "scores": chances,
        }

    def decide(self, answer: Tensor, reading: Reading) -> frozenset[str]:
        """Return the set of given labels: (C,)."""
        chances = zip(reading.labels, answer[: len(reading.labels)].tolist(), strict=True)
        return frozenset(label for label, chance in chances if chance >= reading.threshold)

    def tuned(self, reading: Reading, answers: Sequence[Tensor], gold: Sequence[Any]) -> Reading:
        """Return the reading with the threshold that has the highest micro-F1; among equals, nearest to 0.5.

        The threshold is the middle between two probabilities.
        """
        import torch

        own = [answer[: len(reading.labels)].tolist() for answer in answers]
        truth = [label in found for found in gold for label in reading.labels]
        wanted = sum(map(len, gold))  # this counts labels that train lacks too: they are always missed
        chance, order = torch.tensor(own, dtype=torch.float64).flatten().sort(descending=True)
        right = torch.tensor(truth, dtype=torch.float64)[order].cumsum(0)
        f1 = 2 * right / (torch.arange(1, len(right) + 1) + wanted)
        below = torch.cat([chance[1:], chance.new_zeros(1)])
        cuts = (chance - below > GAP).nonzero().flatten()
        if not wanted or not len(cuts):
            return reading
        middle = (chance + below)[cuts] / 2
        best = middle[f1[cuts] == f1[cuts].max()]
        return replace(reading, threshold=float(best[(best - 0.5).abs().argmin()]))

    def by_label(self, gold: Sequence[Any], predicted: Sequence[Any]) -> dict[str, Counts]:
        """Count the rows of each label."""
        wanted, given = (Counter(label for row in rows for label in row) for rows in (gold, predicted))
        right = Counter(label for a, b in zip(gold, predicted, strict=True) for label in a & b)
        return {label: (right[label], given[label], wanted[label]) for label in sorted(wanted | given)}

    def tally(self, gold: Sequence[Any], predicted: Sequence[Any], labels: Sequence[str]) -> Tally:
        """Count the rows of each label, without a confusion table, because a row may have several labels."""
        counts = self.by_label(gold, predicted)
        order = in_order(set(counts), labels)
        return Tally(order, {label: counts.get(label, (0, 0, 0)) for label in order})

    def commonest(self, records: Sequence[Record]) -> frozenset[str]:
        """Return the set of labels with the highest micro-F1 if every row gets it."""
        counts = Counter(label for record in records for label in record.labels).most_common()
        wanted, right, best = sum(count for _, count in counts), 0, (0.0, 0)
        for size, (_, count) in enumerate(counts, start=1):
            right += count
            best = max(best, (2 * right / (size * len(records) + wanted), -size))
        return frozenset(label for label, _ in counts[: -best[1]])

    def places(self, commonest: Any, labels: Sequence[str]) -> list[int]:
        """Return the class numbers of the labels that every row gets."""
        return [place for place, label in enumerate(labels) if label in commonest]

    def scored(
        self, value: dict[str, Any], choices: Sequence[str], scale: Callable[[float], float]
    ) -> list[Any]:
        """Return every label with its score."""
        return best_first(value["scores"], scale)

    def raw(self, chance: float) -> float:
        """Return the logit of a probability."""
        return math.log(max(chance, LEAST_CHANCE)) - math.log(max(1 - chance, LEAST_CHANCE))

    def tensors(self, values: Sequence[dict[str, Any]]) -> list[list[Any]]:
        """Return the probabilities by row, the names of the labels, and by row which labels are given."""
        labels = list(values[0]["scores"])
        flat = [value["scores"][label] for value in values for label in labels]
        chosen = [label in value["labels"] for value in values for label in labels]
        return [flat, labels, chosen]


def _label_set(value: Any) -> tuple[str, ...]:
    """Return the labels in a list, in a cell, or in columns of 0 and 1 ({column: cell})."""
    if isinstance(value, Mapping):
        return tuple(sys.intern(column) for column, cell in value.items() if _is_one(column, cell))
    if isinstance(value, str) and not value.startswith("["):
        found: Iterable[Any] = value.split(SEPARATOR) if value.strip() else ()
        found = [part.strip() for part in found]
    else:
        found = as_list(value, "labels")
    labels = [_label_name(label) for label in found]
    for label, count in Counter(labels).items():
        if count > 1:
            raise Wrong(f"labels name {short(label)} twice")
    return tuple(labels)


def _label_name(label: Any) -> str:
    if isinstance(label, int) and not isinstance(label, bool):
        return sys.intern(str(label))
    return sys.intern(as_text(label, "a label"))


def _is_one(column: str, cell: Any) -> bool:
    known = ONE_HOT.get(str(cell).strip().lower())
    if known is None:
        raise Wrong(f"column {column!r} is {short(cell)}; expected 0 or 1, because it stands for a label")
    return known


register_kind(Multilabel())
