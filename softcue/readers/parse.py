"""Parsing: raw rows to records, checked one by one; what takes the whole data set to decide is
settled at the end.
"""

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from softcue.errors import RequestError, short
from softcue.kinds import KINDS, Kind
from softcue.kinds.base import Fields
from softcue.kinds.values import Wrong, as_text
from softcue.readers.records import SPREAD, Problems, RawRow, Record, Shape

_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_EMPTY: Mapping[str, Any] = {}
FEW_VALUES = 20  # different whole numbers written with a fraction, as in 1.0: they may well be classes
_LARGEST = 1 << 53  # integers below it are the same as floats


@dataclass
class Parser:
    """Reads the files of one data set, which must agree on their kind and on having a second text or not."""

    shape: Shape
    problems: Problems
    warnings: list[str] = field(default_factory=list)
    # where second texts are empty; a few benchmarks have some
    empty_pairs: list[str] = field(default_factory=list)
    # a kind of the data set's form; kinds that need the same fields are told apart when all is read
    form: Kind | None = None
    paired: bool | None = None

    def __post_init__(self) -> None:
        named = (kind for kind in KINDS.values() if kind.mark in self.shape.columns)
        if self.shape.kind is not None:
            self.form = KINDS[self.shape.kind]
        else:
            self.form = next(named, None)  # who names a column of one kind alone has said which

    def read(
        self, stream: Iterable[tuple[int, RawRow]], name: str, table: bool = False, untyped: bool = False
    ) -> list[Record]:
        """Read the records of one file called `name`.

        table: all rows have the columns of the first. untyped: every value is a string.
        """
        records: list[Record] = []
        for number, raw in stream:
            where = f"{name}:{number}"
            try:
                for row in self._rows(raw):
                    records.append(self._record(row, where, untyped))
            except Wrong as error:
                self.problems.add(where, str(error))
                if table and not records and self._lacks(raw, self.form or _plain()):
                    break  # every further row would say the same
        if self.form is not None:
            try:
                self.warnings += self.form.settle_file(records, name)
            except RequestError as error:
                self.problems.add(f"{name}:1", str(error))
        return records

    def _rows(self, raw: RawRow) -> Iterable[RawRow]:
        if self.shape.template is None:
            return (raw,)
        try:
            return list(self.shape.template(raw))
        except KeyError as error:
            raise Wrong(
                f"the field {error.args[0]!r} is missing; the row has {short(', '.join(raw))}"
            ) from None
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise Wrong(f"not a row of this benchmark ({type(error).__name__}: {str(error)[:80]})") from None

    def _column(self, name: str) -> str:
        return self.shape.columns.get(name, name)

    def _get(self, row: RawRow, name: str) -> Any:
        return row.get(self._column(name))

    def _value(self, row: RawRow, name: str) -> Any:
        """Return a field; one that is spread over several columns as {column: cell}, if all are there."""
        found = self._get(row, name)
        columns = self._columns(name)
        if found is not None or len(columns) == 1:
            return found
        cells = {column: row.get(column) for column in columns}
        return None if None in cells.values() else cells

    def _columns(self, name: str) -> list[str]:
        column = self._column(name)
        return [part.strip() for part in column.split(",")] if name in SPREAD else [column]

    def _record(self, row: RawRow, where: str, untyped: bool) -> Record:
        form = next((kind for kind in KINDS.values() if kind.shows(partial(self._value, row))), _plain())
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
        return [name for name in form.needs if self._value(row, name) is None]

    def _refuse(self, row: RawRow, missing: list[str], form: Kind) -> None:
        columns = [column for name in missing for column in self._columns(name) if row.get(column) is None]
        names = " and ".join(map(repr, columns))
        if self.form is not None and form.needs != self.form.needs and not self._lacks(row, form):
            raise Wrong(
                f"a {_form_name(form)} record among {_form_name(self.form)} records ({names} missing); a "
                "data set is of one kind"
            )
        flag = missing[0].replace("_", "-")
        raise Wrong(
            f"{names} missing; the row has {short(', '.join(map(str, row)))} (name the column with --{flag})"
        )

    def _pair(self, row: RawRow, where: str) -> str | None:
        pair = self._get(row, "text_pair")
        if self.paired is None:
            self.paired = pair is not None
        if (pair is not None) != self.paired:
            column = self._column("text_pair")
            raise Wrong(
                f"{column!r} {'missing' if self.paired else 'given'}, unlike in the first row; give every "
                "row one or none"
            )
        if pair is None:
            return None
        if isinstance(pair, str) and not pair.strip():
            self.empty_pairs.append(where)
            return ""
        return as_text(pair, self._column("text_pair"))

    def _label(self, label: Any, untyped: bool) -> str | float | int:
        """Return a string, an integer or a float.

        Which of them a data set's labels are is settled when all are read.
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
                # "007" and what no integer can be are names
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
    """One raw row, as its kind asks for it."""

    parser: Parser
    row: RawRow
    where: str
    untyped: bool

    def value(self, name: str) -> Any:
        return self.parser._value(self.row, name)

    def text(self) -> str:
        return as_text(self.value("text"), "text")

    def pair(self) -> str | None:
        return self.parser._pair(self.row, self.where)

    def label(self) -> str | float | int:
        return self.parser._label(self.value("label"), self.untyped)


def _plain(numeric: bool = False) -> Kind:
    """Return the kind of a text whose label is a name, or a number."""
    return next(kind for kind in KINDS.values() if kind.mark is None and kind.numeric == numeric)


def _form_name(form: Kind) -> str:
    return "text" if form.mark is None else form.name


def settle(splits: Mapping[str, list[Record]], parser: Parser) -> str:
    """Decide the kind of a data set whose files are all read.

    Integer labels become strings or floats in place, as the kind asks.

    Labels are scores if all are numbers and one has a fraction. A float among string labels is a problem.
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
                f"labels {named} are read as scores (kind score); if they are classes, say kind classify "
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
