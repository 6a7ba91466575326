"""Kind: all that differs between kinds of task, from the record to the answer.

The rest of softcue asks the kind, and compares no names. A kind of your own subclasses `Kind` in a file of
this folder and calls `register_kind`. Letters of shapes: docs/shapes.md.
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

if TYPE_CHECKING:  # torch takes seconds, and readers do without
    from torch import Tensor

    from softcue.batch import Batch
    from softcue.text.tokens import Text

READS_TEXTS = "texts"  # single or in pairs; what reads() of a kind may be
READS_CHOICES = "a text and its choices"
READS_WORDS = "words"
LEAST_CHANCE = 1e-45  # the smallest float32; the logarithm of a probability that is rounded to nothing
Counts = tuple[int, int, int]  # right, predicted and gold


class Fields(Protocol):
    """One raw row, by our own field names; what is wrong with it is raised as Wrong."""

    def value(self, name: str) -> Any:
        """Return a field as the file has it, or None."""

    def text(self) -> str:
        """Return the text."""

    def pair(self) -> str | None:
        """Return the second text, or None."""

    def label(self) -> str | float | int:
        """Return the label of a single text or a pair."""


@dataclass(frozen=True)
class Tally:
    """How gold and predicted labels agree."""

    order: list[str]  # labels, as tables show them
    counts: Mapping[str, Counts]  # of each label
    pairs: Sequence[tuple[str, str]] | None = None  # gold and predicted, for the confusion table


class Kind(ABC):
    """One kind of task. What is said here holds unless a kind says otherwise."""

    name: ClassVar[str]
    order: ClassVar[int] = 9  # among other kinds, in lists and messages
    # the fields that a record must have; kinds that need the same are told apart by their labels
    needs: ClassVar[tuple[str, ...]] = ("text", "label")
    mark: ClassVar[str | None] = None  # the field by which a record shows that it is of this kind
    numeric: ClassVar[bool] = False  # whether labels are numbers
    has_labels: ClassVar[bool] = True  # whether the head has a row for each label; else it gives one number
    presets: ClassVar[str | None] = None  # the kind whose presets it takes; None: its own
    metrics: ClassVar[tuple[str, ...]]  # names in scoring.metrics; the first selects
    task_type: ClassVar[str] = "SEQ_CLS"  # what PEFT calls it
    reads: ClassVar[str] = READS_TEXTS
    has_threshold: ClassVar[bool] = False  # whether answers depend on the reading's threshold
    calibrated: ClassVar[bool] = False  # whether an answer's largest number is the chance that it is right
    activation: ClassVar[str | None] = "softmax"  # Hugging Face's function_to_apply; None: any is accepted
    # name, type and shape of the Open Inference Protocol's outputs; none: it has no shape for them
    outputs: ClassVar[tuple[tuple[str, str, list[int]], ...]] = ()

    @property
    def has_chances(self) -> bool:
        """Whether an answer, or each entity of it, has one chance of being right."""
        return self.calibrated or self.reads == READS_WORDS

    # ---- records

    def shows(self, value: Callable[[str], Any]) -> bool:
        """Say whether a raw row shows that it is of this kind; value: its fields by our own names."""
        return self.mark is not None and value(self.mark) is not None

    @abstractmethod
    def parse(self, row: Fields) -> dict[str, Any]:
        """Return a raw row as fields of a Record. Raises Wrong."""

    def settle_file(self, records: list[Record], name: str) -> list[str]:
        """Settle in place what it takes a whole file to decide, and return warnings. Raises DataError."""
        return []

    def gold(self, record: Record) -> Any:
        """Return what the record says the answer is, as metrics compare it."""
        return record.label

    def names_in(self, gold: Any) -> set[str]:
        """Return the labels of one row's gold answer."""
        return {str(gold)}

    def labels(self, records: Sequence[Record]) -> tuple[str, ...]:
        """Return the labels of training rows in the order of the head's rows: whole numbers by size."""
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
        """Return how records become token ids and targets. Raises RequestError.

        train: the training rows. source: what the data are called, for a message.
        """
        if self.has_labels and not labels:
            raise RequestError(f"{source} names no labels; expected those of its training rows")
        return Reading(self.name, labels, limit)

    @abstractmethod
    def targets(self, record: Record, reading: Reading, number: Mapping[str, int]) -> tuple[Any, ...]:
        """Return what the head should give, one for each example; number: of each label."""

    # ---- the head

    def target(self, values: Sequence[Any], batch: Batch, classes: int) -> Tensor:
        """Return the batch's targets on the host, from one value per example in the order of the request.

        classes: rows of the head.
        """
        import torch

        return torch.tensor([values[i] for i in batch.order])

    def loss(self, logits: Tensor, target: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each row's summed loss and its count, for means by seat: (B, C), (B,) -> (B,), (B,)."""
        from torch.nn import functional as F

        losses = F.cross_entropy(logits, target, reduction="none", ignore_index=IGNORED)
        return losses, (target != IGNORED).float()

    def blind_loss(self, questions: Sequence[Sequence[Any]], classes: int) -> float:
        """Return the least mean loss of an answer that is the same for all questions.

        questions: the targets of each one's examples. classes: rows of the head.
        """
        counts = Counter(self.numbers(questions))
        total = counts.total()
        return -sum(count / total * math.log(count / total) for count in counts.values())

    def numbers(self, questions: Sequence[Sequence[Any]]) -> list[int]:
        """Return the class numbers among targets that are learnt."""
        return [target for targets in questions for target in targets if target != IGNORED]

    def answers(self, logits: Tensor, batch: Batch) -> list[tuple[int, Tensor]]:
        """Return the number of each question and its answer on the host: (B, C) -> numbers with (C,)."""
        return list(zip(batch.groups, logits.softmax(-1).cpu(), strict=True))

    # ---- answers

    def ask(self, request: Mapping[str, Any], pair: bool, text: Text) -> Parsed:
        """Read a request. Raises RequestError where its fields do not fit."""
        return read_texts_of(request, pair)

    @abstractmethod
    def say(self, answer: Any, question: QuestionParts) -> dict[str, Any]:
        """Return an answer of NumPy as JSON-ready values: (C,), (), (choices,) or (words, C)."""

    @abstractmethod
    def decide(self, answer: Tensor, reading: Reading) -> Any:
        """Return an answer as the metrics want it: (C,), (), (choices,) or (words, C)."""

    def tuned(self, reading: Reading, answers: Sequence[Tensor], gold: Sequence[Any]) -> Reading:
        """Return the reading with the threshold that suits the rows that select best."""
        return reading

    # ---- scores

    def by_label(self, gold: Sequence[Any], predicted: Sequence[Any]) -> Mapping[str, Counts] | None:
        """Return what is counted for each label where a row may have several; None where it has one."""
        return None

    def tally(self, gold: Sequence[Any], predicted: Sequence[Any], labels: Sequence[str]) -> Tally | None:
        """Return how answers agree label by label, `labels` first; None where there are no labels."""
        pairs = [(str(a), str(b)) for a, b in zip(gold, predicted, strict=True)]
        found, wanted, given = Counter(pairs), Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
        order = in_order({*wanted, *given}, labels)
        counts = {label: (found[label, label], given[label], wanted[label]) for label in order}
        return Tally(order, counts, pairs)

    def errors(self, gold: Sequence[Any], predicted: Sequence[Any]) -> dict[str, float]:
        """Return what a report says of numbers."""
        return {}

    # ---- an answer without a look at the text

    def commonest(self, records: Sequence[Record]) -> Any:
        """Return the gold answer that suits training rows best."""
        return Counter(record.label for record in records).most_common(1)[0][0]

    def places(self, commonest: Any, labels: Sequence[str]) -> list[int]:
        """Return the labels' numbers that such an answer gives a 1."""
        return [labels.index(commonest)] if labels else []

    def constant(self, record: Record, commonest: Any, row: Tensor) -> Tensor:
        """Return what a head would have to say to give it.

        row: (C,) with a 1 at its places, () where there are no labels.
        """
        return row

    # ---- other servers' shapes

    @abstractmethod
    def scored(
        self, value: dict[str, Any], row: Mapping[str, Any], scale: Callable[[float], float]
    ) -> list[Any]:
        """Return what say() returned as {label, score}, best first; row: the request."""

    def raw(self, chance: float) -> float:
        """Return a logit of a probability: of those that sum to 1, but for a constant."""
        return math.log(max(chance, LEAST_CHANCE))

    def one_label(self, value: dict[str, Any]) -> tuple[str, list[float]] | None:
        """Return the label and the probabilities of all; None where an answer is not one label of several."""
        return None

    def tensors(self, values: Sequence[dict[str, Any]]) -> list[list[Any]]:
        """Return the values of each of `outputs`, for answers of one adapter."""
        return []


KINDS: dict[str, Kind] = {}


def register_kind(kind: Kind) -> None:
    """Let data, adapters and requests be of a kind."""
    KINDS[kind.name] = kind
    for name in sorted(KINDS, key=lambda name: (KINDS[name].order, name)):
        KINDS[name] = KINDS.pop(name)


def in_order(found: set[str], labels: Sequence[str]) -> list[str]:
    """Return labels in the order of `labels`, and those beyond them last."""
    return [*labels, *sorted(found - set(labels), key=lambda label: (len(label), label))]


def best_first(scores: Mapping[str, float], scale: Callable[[float], float]) -> list[dict[str, Any]]:
    """Return the scores of labels as {label, score}, best first."""
    ordered = sorted(scores.items(), key=lambda pair: -pair[1])
    return [{"score": scale(chance), "label": label} for label, chance in ordered]
