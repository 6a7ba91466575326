"""Parsing: raw rows to records, checked one by one; what takes the whole data set to decide is
settled at the end.
"""

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from softcue.errors import RequestError, short
from softcue.readers.records import Problems, RawRow, Record, Shape
from softcue.readers.values import Wrong, as_index, as_list, as_text, encodable
from softcue.scoring.entities import Scheme, is_tag, to_iob2

_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_FORMS = {"classify": "text", "score": "text", "choice": "choice", "tag": "tag"}
_NEEDED = {"text": ("text", "label"), "choice": ("text", "choices", "label"), "tag": ("tokens", "tags")}
_EMPTY: Mapping[str, Any] = {}
MOST_WORDS = 10_000  # of one sentence: a training step has to hold them all
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
    form: str | None = None  # "text", "choice" or "tag"
    paired: bool | None = None

    def __post_init__(self) -> None:
        if self.shape.kind is not None:
            self.form = _FORMS[self.shape.kind]

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
                if table and not records and self._lacks(raw, self.form or "text"):
                    break  # every further row would say the same
        return self._converted(records, name) if self.form == "tag" else records

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

    def _record(self, row: RawRow, where: str, untyped: bool) -> Record:
        form = (
            "tag"
            if self._get(row, "tokens") is not None
            else "choice"
            if self._get(row, "choices") is not None
            else "text"
        )
        if self.form is None:
            self.form = form if not self._lacks(row, form) else None
        missing = self._lacks(row, self.form or form)
        if missing:
            self._refuse(row, missing, form)
        wanted = self.shape.extra_columns
        extra = {name: row[name] for name in wanted if name in row} if wanted else _EMPTY
        group = str(row["group"]) if "group" in extra else None
        if self.form == "tag":
            return self._tagged(row, where, extra, group)
        text = as_text(self._get(row, "text"), "text")
        label = self._get(row, "label")
        if self.form == "choice":
            choices = tuple(
                as_text(choice, "a choice") for choice in as_list(self._get(row, "choices"), "choices")
            )
            return Record(
                text=text,
                choices=choices,
                label=as_index(label, choices),
                group=group,
                extra=extra,
                where=where,
            )
        pair = self._pair(row, where)
        return Record(
            text=text, pair=pair, label=self._label(label, untyped), group=group, extra=extra, where=where
        )

    def _lacks(self, row: RawRow, form: str) -> list[str]:
        return [name for name in _NEEDED[form] if self._get(row, name) is None]

    def _refuse(self, row: RawRow, missing: list[str], form: str) -> None:
        names = " and ".join(repr(self._column(name)) for name in missing)
        if self.form is not None and form != self.form and not self._lacks(row, form):
            raise Wrong(
                f"a {form} record among {self.form} records ({names} missing); a data set is of one kind"
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
        if isinstance(label, bool) and kind != "score":
            return "true" if label else "false"
        if isinstance(label, str):
            if kind == "classify" or not (untyped or kind == "score") or not _NUMBER.fullmatch(label):
                if kind == "score":
                    raise Wrong(f"label {short(label)} is not a number")
                return sys.intern(as_text(label, "label"))
            number = float(label)
            if kind != "score" and _INTEGER.fullmatch(label):
                # "007" and what no integer can be are names
                return (
                    int(number) if label == f"{number:.0f}" and abs(number) < _LARGEST else sys.intern(label)
                )
            label = number
        if isinstance(label, int) and not isinstance(label, bool) and abs(label) < _LARGEST:
            return float(label) if kind == "score" else label
        if isinstance(label, float):
            if not math.isfinite(label):
                raise Wrong(f"label {label} is not a finite number")
            return (
                sys.intern(str(int(label)) if label.is_integer() else repr(label))
                if kind == "classify"
                else label
            )
        if isinstance(label, int) and not isinstance(label, bool):
            raise Wrong(
                f"label {short(label)} is too large for a number; write it as a string if it is a name"
            )
        raise Wrong(f"label {short(label)} is a {type(label).__name__}; expected a string or a number")

    def _tagged(self, row: RawRow, where: str, extra: Mapping[str, Any], group: str | None) -> Record:
        tokens = tuple(
            as_text(token, f"token {at + 1}")
            for at, token in enumerate(as_list(self._get(row, "tokens"), "tokens"))
        )
        tags = as_list(self._get(row, "tags"), "tags")
        if not tokens:
            raise Wrong("no tokens")
        if len(tokens) > MOST_WORDS:
            raise Wrong(
                f"{len(tokens):,} tokens; expected at most {MOST_WORDS:,}: is an empty line missing between "
                "sentences?"
            )
        if len(tags) != len(tokens):
            raise Wrong(f"{len(tokens)} tokens and {len(tags)} tags")
        for at, tag in enumerate(tags):
            if not isinstance(tag, str) or not is_tag(tag):
                raise Wrong(
                    f"tag {at + 1} is {short(tag)}; expected O, B-TYPE or I-TYPE (or the E-, S-, L-, U- of "
                    "BIOES and BILOU)"
                )
            encodable(tag, f"tag {at + 1}")
        return Record(tokens=tokens, tags=tuple(map(sys.intern, tags)), group=group, extra=extra, where=where)

    def _converted(self, records: list[Record], name: str) -> list[Record]:
        """Return the records of one file with their tags in IOB2, whatever scheme the file follows."""
        scheme = Scheme()
        for record in records:
            scheme.see(record.tags, record.where)
        try:
            kind = scheme.name
        except RequestError as error:
            self.problems.add(f"{name}:1", str(error))
            return records
        if kind != "IOB2":
            self.warnings.append(f"{name}: tags are {kind}; converted to IOB2")
        if scheme.faults:
            self.warnings.append(
                f"{name}: {scheme.faults:,} tags that {kind} forbids, repaired; the first at "
                f"{scheme.first_fault}"
            )
        if kind == "IOB2" and not scheme.faults:
            return records
        for at, record in enumerate(records):
            tags = tuple(map(sys.intern, to_iob2(record.tags)))
            if tags != record.tags:
                records[at] = replace(record, tags=tags)
        return records


def settle(splits: Mapping[str, list[Record]], parser: Parser) -> str:
    """Decide the kind of a data set whose files are all read.

    Integer labels become strings or floats in place, as the kind asks.

    Labels are scores if all are numbers and one has a fraction. A float among string labels is a problem.
    """
    if parser.form != "text":
        return parser.form or "classify"
    kind = parser.shape.kind
    if kind is None:
        seen = Counter(type(record.label) for records in splits.values() for record in records)
        if seen[str] and seen[float]:
            rare, other = (str, "numbers") if seen[str] < seen[float] else (float, "strings")
            for record in (
                record for records in splits.values() for record in records if type(record.label) is rare
            ):
                parser.problems.add(
                    record.where, f"label {short(record.label)} among labels that are {other}"
                )
            return "classify"
        kind = "score" if seen[float] else "classify"
        values = (
            {float(record.label or 0) for records in splits.values() for record in records}
            if kind == "score"
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
            if kind == "score" and isinstance(label, int):
                records[at] = replace(record, label=float(label))
            elif kind == "classify" and not isinstance(label, str):
                records[at] = replace(record, label=sys.intern(str(label)))
    return kind
