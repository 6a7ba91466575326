"""Kind: everything that differs between kinds of task, from the record to the answer.

The rest of softcue calls the kind's functions and never compares names of kinds. To add a kind, subclass
`Kind` and call `register_kind`. docs/shapes.md explains the letters of shapes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from softcue.errors import RequestError
from softcue.kinds.record import IGNORED, Parsed, QuestionParts, Reading, Record
from softcue.kinds.requests import read_texts_of

if TYPE_CHECKING:  # importing torch takes seconds, and readers do not need it
    from torch import Tensor

    from softcue.batch import Batch
    from softcue.text.tokens import Text

READS_TEXTS = "texts"  # single texts or pairs; one of the values of Kind.reads
READS_CHOICES = "a text and its choices"
READS_WORDS = "words"
LEAST_CHANCE = 1e-45  # the smallest float32: replaces a probability of 0 before a logarithm
Counts = tuple[int, int, int]  # numbers of right, predicted and gold labels


class Fields(Protocol):
    """Gives the fields of one raw row by our own names; raises Wrong for a field that is wrong."""

    def value(self, name: str) -> Any:
        """Return a field's value as it is in the file, or None."""

    def text(self) -> str:
        """Return the text."""

    def pair(self) -> str | None:
        """Return the second text, or None."""

    def label(self) -> str | float | int:
        """Return the label of a single text or a pair."""


@dataclass(frozen=True)
class Tally:
    """Counts how often gold and predicted labels agree."""

    order: list[str]  # the labels, in the order in which tables show them
    counts: Mapping[str, Counts]  # by label
    pairs: Sequence[tuple[str, str]] | None = None  # (gold, predicted), for the confusion table


class Kind(ABC):
    """Base class of kinds of task; its functions are the defaults, those of a kind with exclusive labels."""

    name: ClassVar[str]
    order: ClassVar[int] = 9  # its place among the kinds in lists and messages
    # the fields that a record must have; kinds that need the same fields are distinguished by their labels
    needs: ClassVar[tuple[str, ...]] = ("text", "label")
    mark: ClassVar[str | None] = None  # the field by which a record shows that it is of this kind
    numeric: ClassVar[bool] = False  # whether labels are numbers
    has_labels: ClassVar[bool] = True  # whether the head has a row for each label; otherwise it has one row
    presets: ClassVar[str | None] = None  # the kind whose presets it uses; None: its own
    metrics: ClassVar[tuple[str, ...]]  # names in scoring.metrics; the first chooses the best step
    task_type: ClassVar[str] = "SEQ_CLS"  # PEFT's name for it
    reads: ClassVar[str] = READS_TEXTS
    has_threshold: ClassVar[bool] = False  # whether answers depend on the reading's threshold
    calibrated: ClassVar[bool] = False  # whether an answer's largest value is its probability of being right
    activation: ClassVar[str | None] = "softmax"  # Hugging Face's function_to_apply; None: any is accepted
    # name, type and shape of each output in the Open Inference Protocol; empty: the kind has no such outputs
    outputs: ClassVar[tuple[tuple[str, str, list[int]], ...]] = ()

    @property
    def has_chances(self) -> bool:
        """Whether an answer, or each entity in it, has a single probability of being right."""
        return self.calibrated or self.reads == READS_WORDS

    # ---- records

    def shows(self, value: Callable[[str], Any]) -> bool:
        """Say whether a raw row must be of this kind; value: returns a field by our own name."""
        return self.mark is not None and value(self.mark) is not None

    @abstractmethod
    def parse(self, row: Fields) -> dict[str, Any]:
        """Return the fields of a Record from a raw row. Raises Wrong."""

    def settle_file(self, records: list[Record], name: str) -> list[str]:
        """Change records in place where that needs the whole file, and return warnings. Raises DataError."""
        return []

    def gold(self, record: Record) -> Any:
        """Return the record's gold answer, in the form that metrics compare."""
        return record.label

    def names_in(self, gold: Any) -> set[str]:
        """Return the labels in one row's gold answer."""
        return {str(gold)}

    def labels(self, records: Sequence[Record]) -> tuple[str, ...]:
        """Return the labels of training rows in the order of the head's rows; whole numbers go by size."""
        if not self.has_labels:
            return ()
        found = {name for record in records for name in self.names_in(self.gold(record))}
        try:
            return tuple(sorted(found, key=lambda label: (int(label), label)))
        except ValueError:
            return tuple(sorted(found))

    # ---- items

    def reading(
        self, labels: tuple[str, ...], train: Sequence[Record], limit: int, text: Text, source: str
    ) -> Reading:
        """Return the Reading with which records become token ids and targets. Raises RequestError.

        train: the training rows. source: the name of the data, for messages.
        """
        if self.has_labels and not labels:
            raise RequestError(f"{source} names no labels; expected the labels of its training rows")
        return Reading(self.name, labels, limit)

    @abstractmethod
    def targets(self, record: Record, reading: Reading, number: Mapping[str, int]) -> tuple[Any, ...]:
        """Return the record's targets, one for each example; number: label -> class number."""

    # ---- the head

    def target(self, values: Sequence[Any], batch: Batch, classes: int) -> Tensor:
        """Return the batch's targets as a tensor on the host.

        values: one target for each example, in the order of the request. classes: number of the head's rows.
        """
        import torch

        return torch.tensor([values[i] for i in batch.order])

    def loss(self, logits: Tensor, target: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each example's summed loss and its count, to compute means by seat.

        (B, C), (B,) -> (B,), (B,).
        """
        from torch.nn import functional as F

        losses = F.cross_entropy(logits, target, reduction="none", ignore_index=IGNORED)
        return losses, (target != IGNORED).float()

    def blind_loss(self, questions: Sequence[Sequence[Any]], classes: int) -> float:
        """Return the least mean loss that the same answer for all questions can have.

        questions: for each question the targets of its examples. classes: number of the head's rows.
        """
        counts = Counter(self.numbers(questions))
        total = counts.total()
        return -sum(count / total * math.log(count / total) for count in counts.values())

    def numbers(self, questions: Sequence[Sequence[Any]]) -> list[int]:
        """Return the class numbers of all targets, without ignored ones."""
        return [target for targets in questions for target in targets if target != IGNORED]

    def answers(self, logits: Tensor, batch: Batch) -> list[tuple[int, Tensor]]:
        """Return each question's number and its answer on the host: (B, C) -> numbers, each with (C,)."""
        return list(zip(batch.groups, logits.softmax(-1).cpu(), strict=True))

    # ---- answers

    def ask(self, request: Mapping[str, Any], pair: bool, text: Text) -> Parsed:
        """Read a request. Raises RequestError if its fields do not fit the kind."""
        return read_texts_of(request, pair)

    @abstractmethod
    def say(self, answer: Any, question: QuestionParts) -> dict[str, Any]:
        """Return a NumPy answer as values that JSON can hold: (C,), (), (choices,) or (words, C)."""

    @abstractmethod
    def decide(self, answer: Tensor, reading: Reading) -> Any:
        """Return an answer in the form that metrics compare: (C,), (), (choices,) or (words, C)."""

    def tuned(self, reading: Reading, answers: Sequence[Tensor], gold: Sequence[Any]) -> Reading:
        """Return the reading with the threshold that gives the best score on the selection rows."""
        return reading

    # ---- scores

    def by_label(self, gold: Sequence[Any], predicted: Sequence[Any]) -> Mapping[str, Counts] | None:
        """Return the counts of each label if a row may have several labels, else None."""
        return None

    def tally(self, gold: Sequence[Any], predicted: Sequence[Any], labels: Sequence[str]) -> Tally | None:
        """Return the counts for each label, those of `labels` first; None if the kind has no labels."""
        pairs = [(str(a), str(b)) for a, b in zip(gold, predicted, strict=True)]
        found, wanted, given = Counter(pairs), Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
        order = in_order({*wanted, *given}, labels)
        counts = {label: (found[label, label], given[label], wanted[label]) for label in order}
        return Tally(order, counts, pairs)

    def errors(self, gold: Sequence[Any], predicted: Sequence[Any]) -> dict[str, float]:
        """Return the errors that a report shows for numeric answers."""
        return {}

    # ---- the answer that ignores the text

    def commonest(self, records: Sequence[Record]) -> Any:
        """Return the gold answer that scores best on the training rows if it is given for all of them."""
        return Counter(record.label for record in records).most_common(1)[0][0]

    def places(self, commonest: Any, labels: Sequence[str]) -> list[int]:
        """Return the class numbers to which such an answer gives a 1."""
        return [labels.index(commonest)] if labels else []

    def constant(self, record: Record, commonest: Any, row: Tensor) -> Tensor:
        """Return the head's output for which `decide` returns this answer.

        row: (C,) with a 1 at the answer's places, or () if the kind has no labels.
        """
        return row

    # ---- answers in the formats of other servers

    @abstractmethod
    def scored(
        self, value: dict[str, Any], choices: Sequence[str], scale: Callable[[float], float]
    ) -> list[Any]:
        """Return the result of say() as a list of {label, score}, the best first.

        choices: those of the request, if it has any.
        """

    def raw(self, chance: float) -> float:
        """Return the logit of a probability; for probabilities that sum to 1, up to a constant."""
        return math.log(max(chance, LEAST_CHANCE))

    def one_label(self, value: dict[str, Any]) -> tuple[str, list[float]] | None:
        """Return the label and all probabilities; None if an answer is not one label of several."""
        return None

    def tensors(self, values: Sequence[dict[str, Any]]) -> list[list[Any]]:
        """Return the values of each of `outputs`, for answers of a single adapter."""
        return []


KINDS: dict[str, Kind] = {}


def register_kind(kind: Kind) -> None:
    """Register a kind, so that data, adapters and requests can have it."""
    KINDS[kind.name] = kind
    for name in sorted(KINDS, key=lambda name: (KINDS[name].order, name)):
        KINDS[name] = KINDS.pop(name)


def in_order(found: set[str], labels: Sequence[str]) -> list[str]:
    """Return labels in the order of `labels`, and unknown ones at the end."""
    return [*labels, *sorted(found - set(labels), key=lambda label: (len(label), label))]


def best_first(scores: Mapping[str, float], scale: Callable[[float], float]) -> list[dict[str, Any]]:
    """Return the scores of labels as a list of {label, score}, the best first."""
    ordered = sorted(scores.items(), key=lambda pair: -pair[1])
    return [{"score": scale(chance), "label": label} for label, chance in ordered]
