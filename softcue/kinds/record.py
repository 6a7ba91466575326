"""Record and Reading: an example with its answer, and how an adapter reads it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

IGNORED = -100  # the class number of a label that no training row has
Offsets = tuple[tuple[int, int], ...]  # first character and one past the last, of each word


@dataclass(frozen=True, slots=True)
class Record:
    """One example with its gold answer."""

    text: str | None = None
    pair: str | None = None
    choices: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    label: str | float | int | None = None  # classify: str; score: float; choice: index
    tags: tuple[str, ...] = ()  # IOB2
    labels: tuple[str, ...] = ()  # multilabel
    group: str | None = None  # the same for all rows of a question, if a benchmark scores by question
    extra: Mapping[str, Any] = field(default_factory=dict)  # the keys of Task.extra_columns
    where: str = ""  # "train.jsonl:17"


@dataclass(frozen=True)
class Reading:
    """How an adapter reads its input; saved in its header."""

    kind: str
    labels: tuple[str, ...]
    limit: int  # most tokens of an example
    centre: float = 0.0  # score heads learn (value - centre) / spread
    spread: float = 1.0
    threshold: float = 0.5  # multilabel gives labels with at least this probability


@dataclass(frozen=True)
class Parsed:
    """A request, as a kind has read it."""

    record: Record
    text: str
    offset: Offsets = ()  # the place of each word in `text` (tagging)


class QuestionParts(Protocol):
    """The parts of a question that are needed to write its answer."""

    @property
    def record(self) -> Record:
        """The request's texts."""

    @property
    def reading(self) -> Reading:
        """The reading of the adapter that answered."""

    @property
    def text(self) -> str:
        """The text that the offsets refer to."""

    @property
    def offset(self) -> Offsets:
        """The place of each word in the text."""
