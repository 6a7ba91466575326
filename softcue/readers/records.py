"""Records: what the readers hand on, whatever file it came from."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from softcue.errors import DataError
from softcue.kinds import KINDS
from softcue.kinds.record import Record

DATA_KINDS = tuple(KINDS)
# the names that a record's fields have in a file
FIELDS = ("text", "text_pair", "label", "labels", "choices", "tokens", "tags")
SPREAD = ("labels",)  # fields that may be one column for each label, given as "a,b,c"
SPLITS = ("train", "dev", "test")

RawRow = Mapping[str, Any]
# one row as a benchmark publishes it -> rows under our own field names
RowTemplate = Callable[[RawRow], Iterable[RawRow]]


@dataclass(frozen=True)
class Data:
    """A data set: its splits, and what every user of it has to know about them."""

    kind: str
    splits: dict[str, list[Record]]
    # classify, multilabel: labels of train; tag: tag names of train, "O" first; otherwise none
    labels: tuple[str, ...]
    pair: bool
    name: str
    metrics: tuple[str, ...]  # the one that selects first
    positive: str | None = None  # the label that F1 is measured on
    # why this is only a part of a benchmark; to be said wherever its score is shown
    subset: str | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def metric(self) -> str:
        """The metric that selects."""
        return self.metrics[0]


@dataclass(frozen=True)
class Shape:
    """How the rows of a data set are to be read."""

    kind: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)  # our field name -> the file's
    extra_columns: tuple[str, ...] = ()  # extra keys to carry along
    template: RowTemplate | None = None

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in DATA_KINDS:
            raise DataError(f"kind {self.kind!r} is unknown; expected one of {', '.join(DATA_KINDS)}")
        wrong = sorted(set(self.columns) - set(FIELDS))
        if wrong:
            raise DataError(
                f"column names were given for {', '.join(wrong)}; they can be given for {', '.join(FIELDS)}"
            )


@dataclass
class Problems:
    """Problems of a data set, collected so that all of them are reported together."""

    SHOWN = 20
    first: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, where: str, what: str) -> None:
        """Note a problem; `where` is "file:line"."""
        self.count += 1
        if len(self.first) < self.SHOWN:
            self.first.append(f"{where}: {what}")

    def check(self, source: str) -> None:
        """Raise DataError for `source` if there are any problems."""
        if self.count == 1:
            raise DataError(f"{source}: {self.first[0]}")
        if self.count:
            rest = self.count - len(self.first)
            tail = [f"and {rest:,} more"] if rest else []
            raise DataError(
                "\n  ".join([f"{source}: {self.count:,} problems; correct these lines", *self.first, *tail])
            )
