"""Records: the data sets that all readers return."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from softcue.errors import DataError, short
from softcue.kinds import KINDS
from softcue.kinds.record import Record
from softcue.readers.columns import Columns
from softcue.readers.encoding import Encoding

SPLITS = ("train", "dev", "test")

RawRow = Mapping[str, Any]
# one row with the fields that a benchmark publishes -> rows with our own field names
RowTemplate = Callable[[RawRow], Iterable[RawRow]]


@dataclass(frozen=True)
class Data:
    """A data set: its splits, and what is known about them."""

    kind: str
    splits: dict[str, list[Record]]
    # classify, multilabel: labels of train; tag: tag names of train, "O" first; otherwise none
    labels: tuple[str, ...]
    pair: bool
    name: str
    metrics: tuple[str, ...]  # the first one chooses the best step
    positive: str | None = None  # the label whose F1 is measured
    # says which part of a benchmark this is; shown wherever its score is shown
    subset: str | None = None
    warnings: list[str] = field(default_factory=list)
    columns: Mapping[str, str] = field(default_factory=dict)  # the given names of the file's columns
    encoding: str | None = None  # the given encoding of the file
    rows: int | None = None  # the given limit of training rows; None: all

    @property
    def metric(self) -> str:
        """The metric that chooses the best step."""
        return self.metrics[0]


@dataclass(frozen=True)
class Shape:
    """Says how to read the rows of a data set."""

    kind: str | None = None
    columns: Columns = field(default_factory=Columns)
    extra_columns: tuple[str, ...] = ()  # other keys that records keep
    template: RowTemplate | None = None
    encoding: Encoding = field(default_factory=Encoding)

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise DataError(f"kind {self.kind!r} is unknown; expected one of {', '.join(KINDS)}")


@dataclass
class Problems:
    """Collects the problems of a data set, to report all of them together."""

    SHOWN = 20
    first: list[str] = field(default_factory=list)
    count: int = 0
    notes: list[str] = field(default_factory=list)  # warnings about what is not a problem
    empty: Counter[str] = field(default_factory=Counter)  # number of missing values by column

    def add(self, where: str, what: str) -> None:
        """Record a problem; `where` is "file:line"."""
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
            if self.empty:
                counts = ", ".join(f"{short(name)} {count:,}" for name, count in self.empty.most_common(10))
                tail.append(f"missing values by column: {counts}")
            raise DataError(
                "\n  ".join([f"{source}: {self.count:,} problems; correct these lines", *self.first, *tail])
            )
