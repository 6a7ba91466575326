"""Records: what the readers hand on, whatever file it came from."""

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
    columns: Mapping[str, str] = field(default_factory=dict)  # what was said of the file's columns
    encoding: str | None = None  # and of what it is written in
    rows: int | None = None  # training rows at most, as was said; None: all

    @property
    def metric(self) -> str:
        """The metric that selects."""
        return self.metrics[0]


@dataclass(frozen=True)
class Shape:
    """How the rows of a data set are to be read."""

    kind: str | None = None
    columns: Columns = field(default_factory=Columns)
    extra_columns: tuple[str, ...] = ()  # extra keys to carry along
    template: RowTemplate | None = None
    encoding: Encoding = field(default_factory=Encoding)

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise DataError(f"kind {self.kind!r} is unknown; expected one of {', '.join(KINDS)}")


@dataclass
class Problems:
    """Problems of a data set, collected so that all of them are reported together."""

    SHOWN = 20
    first: list[str] = field(default_factory=list)
    count: int = 0
    notes: list[str] = field(default_factory=list)  # what is no problem, and has to be told
    empty: Counter[str] = field(default_factory=Counter)  # values that are missing, by column

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
            if self.empty:
                counts = ", ".join(f"{short(name)} {count:,}" for name, count in self.empty.most_common(10))
                tail.append(f"missing values by column: {counts}")
            raise DataError(
                "\n  ".join([f"{source}: {self.count:,} problems; correct these lines", *self.first, *tail])
            )
