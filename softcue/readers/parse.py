"""Parsing: turns raw rows into checked records; what depends on all rows is decided at the end."""

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from softcue.errors import RequestError, short
from softcue.kinds import KINDS, Kind
from softcue.kinds.base import Fields
from softcue.kinds.values import Empty, Wrong, as_text
from softcue.readers.columns import FIELDS, Absent, Finder, tag_names_of
from softcue.readers.records import Problems, RawRow, Record, Shape
from softcue.readers.tags import with_tags

_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_EMPTY: Mapping[str, Any] = {}
FEW_VALUES = 20  # at most so many different whole numbers written with a fraction (1.0) may be classes
_LARGEST = 1 << 53  # a float represents all smaller integers exactly


@dataclass
class Parser:
    """Reads the files of one data set; all must have the same kind, and all or none a second text."""

    shape: Shape
    problems: Problems
    warnings: list[str] = field(default_factory=list)
    # places of empty second texts; a few benchmarks have some
    empty_pairs: list[str] = field(default_factory=list)
    # a kind with the data set's fields; kinds that need the same fields are distinguished after all is read
    form: Kind | None = None
    paired: bool | None = None

    def __post_init__(self) -> None:
        named = (kind for kind in KINDS.values() if kind.mark in self.shape.columns.given)
        if self.shape.kind is not None:
            self.form = KINDS[self.shape.kind]
        else:
            self.form = next(named, None)  # a given column that only one kind has decides the kind
        self._begin()

    def read(
        self, stream: Iterable[tuple[int, RawRow]], name: str, table: bool = False, untyped: bool = False
    ) -> list[Record]:
        """Read the records of one file with this name.

        table: whether all rows have the columns of the first. untyped: whether every value is a string.
        """
        records: list[Record] = []
        self._begin()
        for number, raw in stream:
            where = f"{name}:{number}"
            try:
                for row in self._rows(raw, where):
                    records.append(self._record(row, where, untyped))
            except Wrong as error:
                self.problems.add(where, self.finder.named(str(error)))
                if isinstance(error, Empty) and error.name in FIELDS:
                    self.problems.empty[self.finder.shown(error.name)] += 1
                if table and not records and isinstance(error, Absent):
                    break  # every further row would have the same problem
        for column in self.finder.unmet() if records and self.shape.template is None else ():
            self.problems.add(f"{name}:1", f"no row has the column {column!r}")
        self.warnings += self.finder.lacks(name)
        if self.form is not None:
            try:
                self.warnings += self.form.settle_file(records, name)
            except RequestError as error:
                self.problems.add(f"{name}:1", str(error))
        return records

    def _begin(self) -> None:
        """Begin a new file, whose columns are looked up again."""
        self.finder = Finder(self.shape.columns)
        self.tag_names = tag_names_of(self.shape.columns)

    def _rows(self, raw: RawRow, where: str) -> Iterable[RawRow]:
        if self.shape.template is None:
            fields = self.finder.fields(raw, where)
            if self.form is not None and "tags" not in self.form.needs:
                return (fields,)
            asked = self.form is not None or "entities" in self.shape.columns.given
            return (with_tags(fields, self.tag_names, asked),)
        try:
            return list(self.shape.template(raw))
        except KeyError as error:
            raise Wrong(
                f"the field {error.args[0]!r} is missing; the row has {short(', '.join(raw))}"
            ) from None
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise Wrong(f"not a row of this benchmark ({type(error).__name__}: {str(error)[:80]})") from None

    def _record(self, row: RawRow, where: str, untyped: bool) -> Record:
        form = next((kind for kind in KINDS.values() if kind.shows(row.get)), _plain())
        if self.form is None:
            self.form = form if not self._lacks(row, form) else None
        missing = self._lacks(row, self.form or form)
        if missing:
            self._refuse(row, missing, form)
        wanted = self.shape.extra_columns
        extra = {name: row[name] for name in wanted if name in row} if wanted else _EMPTY
        group = str(row["group"]) if "group" in extra else None
        made = (self.form or form).parse(_Row(self, row, where, untyped))
        return Record(**made, group=group, extra=extra, where=where)

    def _lacks(self, row: RawRow, form: Kind) -> list[str]:
        return [name for name in form.needs if row.get(name) is None]

    def _refuse(self, row: RawRow, missing: list[str], form: Kind) -> None:
        if missing[0] in row:
            raise Empty(missing[0])
        names = " and ".join(map(repr, missing))
        if self.form is not None and form.needs != self.form.needs and not self._lacks(row, form):
            raise Wrong(
                f"a {_form_name(form)} record among {_form_name(self.form)} records ({names} missing); "
                "expected records of one kind"
            )
        flag = missing[0].replace("_", "-")
        keys = row if self.finder.keys is None else self.finder.keys
        raise Absent(
            f"{names} missing; the row has {short(', '.join(map(str, keys)))} (name the column with --{flag})"
        )

    def _pair(self, row: RawRow, where: str) -> str | None:
        pair = row.get("text_pair")
        if pair is None and "text_pair" in row and (self.paired or "text_pair" in self.shape.columns.given):
            pair = ""
        if self.paired is None:
            self.paired = pair is not None
        if (pair is not None) != self.paired:
            column = self.finder.shown("text_pair")
            raise Wrong(
                f"{column!r} {'missing' if self.paired else 'given'}, unlike in the first row; give a second "
                "text in every row or in none"
            )
        if pair is None:
            return None
        if isinstance(pair, str) and not pair.strip():
            self.empty_pairs.append(where)
            return ""
        return as_text(pair, "text_pair")

    def _label(self, label: Any, untyped: bool) -> str | float | int:
        """Return a label as a string, an integer or a float.

        `settle` decides the type of all labels after the last row.
        """
        kind = self.shape.kind
        numbers = kind is not None and KINDS[kind].numeric
        names = kind is not None and not numbers
        if isinstance(label, bool) and not numbers:
            return "true" if label else "false"
        if isinstance(label, str):
            if names or not (untyped or numbers) or not _NUMBER.fullmatch(label):
                if numbers:
                    raise Wrong(f"label {short(label)} is not a number")
                return sys.intern(as_text(label, "label"))
            number = float(label)
            if not numbers and _INTEGER.fullmatch(label):
                # "007" and numbers that are too large for an exact integer are names
                return (
                    int(number) if label == f"{number:.0f}" and abs(number) < _LARGEST else sys.intern(label)
                )
            label = number
        if isinstance(label, int) and not isinstance(label, bool) and abs(label) < _LARGEST:
            return float(label) if numbers else label
        if isinstance(label, float):
            if not math.isfinite(label):
                raise Wrong(f"label {label} is not a finite number")
            return sys.intern(str(int(label)) if label.is_integer() else repr(label)) if names else label
        if isinstance(label, int) and not isinstance(label, bool):
            raise Wrong(
                f"label {short(label)} is too large for a number; write it as a string if it is a name"
            )
        raise Wrong(f"label {short(label)} is a {type(label).__name__}; expected a string or a number")


@dataclass(slots=True)
class _Row(Fields):
    """The fields of one raw row, for its kind."""

    parser: Parser
    row: RawRow
    where: str
    untyped: bool

    def value(self, name: str) -> Any:
        return self.row.get(name)

    def text(self) -> str:
        return as_text(self.value("text"), "text")

    def pair(self) -> str | None:
        return self.parser._pair(self.row, self.where)

    def label(self) -> str | float | int:
        return self.parser._label(self.value("label"), self.untyped)


def _plain(numeric: bool = False) -> Kind:
    """Return the kind for a text whose label is a name, or if `numeric` a number."""
    return next(kind for kind in KINDS.values() if kind.mark is None and kind.numeric == numeric)


def _form_name(form: Kind) -> str:
    return "text" if form.mark is None else form.name


def settle(splits: Mapping[str, list[Record]], parser: Parser) -> str:
    """Decide the kind of a data set after all of its files are read.

    Integer labels are changed in place to strings or floats, as the kind needs. Labels are scores if all are
    numbers and at least one has a fraction. A float among string labels is a problem.
    """
    if parser.form is None or parser.form.mark is not None:
        return (parser.form or _plain()).name
    kind = parser.form
    if parser.shape.kind is None:
        seen = Counter(type(record.label) for records in splits.values() for record in records)
        if seen[str] and seen[float]:
            rare, other = (str, "numbers") if seen[str] < seen[float] else (float, "strings")
            for record in (
                record for records in splits.values() for record in records if type(record.label) is rare
            ):
                parser.problems.add(
                    record.where, f"label {short(record.label)} among labels that are {other}"
                )
            return _plain().name
        kind = _plain(numeric=bool(seen[float]))
        values = (
            {float(record.label or 0) for records in splits.values() for record in records}
            if kind.numeric
            else {0.5}
        )
        if len(values) <= FEW_VALUES and all(value.is_integer() for value in values):
            named = ", ".join(f"{value:g}" for value in sorted(values)[:5]) + ", ..." * (len(values) > 5)
            parser.warnings.append(
                f"labels {named} are read as scores (kind score); if they are classes, give kind classify "
                "(--kind classify)"
            )
    for records in splits.values():
        for at, record in enumerate(records):
            label = record.label
            if kind.numeric and isinstance(label, int):
                records[at] = replace(record, label=float(label))
            elif not kind.numeric and not isinstance(label, str):
                records[at] = replace(record, label=sys.intern(str(label)))
    return kind.name
