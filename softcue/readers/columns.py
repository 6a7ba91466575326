"""Columns: finds an example's fields in a file's columns, and joins several columns into one text."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from softcue.errors import DataError, short
from softcue.kinds.values import Wrong, as_list

# the names of a record's fields in a file
FIELDS = ("text", "text_pair", "label", "labels", "choices", "tokens", "tags", "entities")
JOINABLE = ("text", "text_pair")  # fields that may be made of several columns
TEMPLATE, TAG_NAMES = "template", "tag_names"  # the other keys of `columns`
SPREAD = ("labels",)  # fields that may have one column for each label
LISTS = ("choices", "tokens")  # fields that are JSON in a table's cell
JOINER = ". "  # not the tokenizer's separator, because a text must never become a special token
_OTHER_NAMES = {"tags": ("tags", "ner_tags")}  # Hugging Face's data sets of tagged words use ner_tags
# the beginnings of messages about a field
_WORDS = {
    **{name: name for name in FIELDS},
    "token": "tokens",
    "tag": "tags",
    "entity": "entities",
    "the entity": "entities",
    "the label of entity": "entities",
    "a choice": "choices",
    "a label": "labels",
}
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[^{}]+|[{}]")

Said = Mapping[str, str | Sequence[str]]  # our field -> the file's column, or columns


@dataclass(frozen=True)
class Columns:
    """The names that were given for a file's columns."""

    given: Mapping[str, str] = field(default_factory=dict)  # by the caller: the file must have them
    # by the adapter: if the file lacks a field's columns, the field is searched under its own name
    remembered: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.given)


@dataclass(frozen=True)
class FieldSource:
    """The columns that one field is made of."""

    names: tuple[str, ...]  # columns
    pieces: tuple[tuple[str, str | None], ...] = ()  # of a template: (literal text, the column after it)


def as_columns(said: "Said | Columns | None", remembered: Mapping[str, str] | None = None) -> Columns:
    """Check the given columns, and return them as Columns; a list of names becomes a line of CSV.

    Raises DataError.
    """
    if isinstance(said, Columns):
        return said
    if said is not None and not isinstance(said, Mapping):
        raise DataError(
            f"columns are {short(said)}; expected a dictionary from our names to the file's, as in "
            "{'text': 'subject', 'label': 'category'}"
        )
    given = {
        name: value if isinstance(value, str) else _as_line(name, value)
        for name, value in (said or {}).items()
    }
    sources_of(given)
    return Columns(given, remembered or {})


def sources_of(said: Mapping[str, str]) -> Mapping[str, FieldSource]:
    """Return the sources of each field. Raises DataError for a wrong name, field or template."""
    return _sources(tuple(said.items()))


def tag_names_of(columns: Columns) -> tuple[str, ...]:
    """Return the names of tags that are numbers, in order; empty if none were given."""
    line = columns.given.get(TAG_NAMES) or columns.remembered.get(TAG_NAMES)
    return _names(TAG_NAMES, line) if line else ()


@lru_cache(maxsize=1024)  # all requests to an adapter have the same columns
def _sources(said: tuple[tuple[str, str], ...]) -> Mapping[str, FieldSource]:
    found: dict[str, FieldSource] = {}
    for name, line in said:
        if name == TEMPLATE:
            if "text" in dict(said):
                raise DataError("template and text came, which name the same columns; give one of them")
            found["text"] = _template(line)
        elif name == TAG_NAMES:
            _names(name, line)
        elif name in FIELDS:
            names = _names(name, line)
            if len(names) > 1 and name not in (*JOINABLE, *SPREAD):
                raise DataError(
                    f"{name} takes one column, but {len(names)} came ({short(line)}); put a name that has a "
                    "comma in quotes, as in a CSV file"
                )
            found[name] = FieldSource(names)
        else:
            known = ", ".join((*FIELDS, TEMPLATE, TAG_NAMES))
            raise DataError(f"column names were given for {short(name)}; expected one of {known}")
    return found


def _names(name: str, line: str) -> tuple[str, ...]:
    """Return the names in a line of CSV."""
    try:
        names = tuple(next(csv.reader([line], skipinitialspace=True, strict=True), ()))
    except csv.Error as error:
        raise DataError(
            f"the columns of {name} are {short(line)}, which is not a line of CSV ({error})"
        ) from error
    if not names or not all(part.strip() for part in names):
        raise DataError(f"the columns of {name} are {short(line)}; expected names separated by commas")
    return names


def _as_line(name: str, value: Any) -> str:
    if isinstance(value, Sequence) and value and all(isinstance(part, str) and part for part in value):
        return ",".join('"' + part.replace('"', '""') + '"' for part in value)
    raise DataError(f"the column of {short(name)} is {short(value)}; expected a name, or a list of names")


def _template(line: str) -> FieldSource:
    pieces: list[tuple[str, str | None]] = []
    literal = ""
    for match in _PIECE.finditer(line):
        if match[1] is not None:
            pieces.append((literal, match[1]))
            literal = ""
        elif match[0] in ("{", "}"):
            raise DataError(
                f"the template {short(line)} has an unmatched brace; write {{{{ or }}}} for a literal brace"
            )
        else:
            literal += match[0][0] if match[0] in ("{{", "}}") else match[0]
    if not pieces:
        raise DataError(f"the template {short(line)} names no column; expected one as in '{{subject}}'")
    names = tuple(dict.fromkeys(name for _, name in pieces if name is not None))
    return FieldSource(names, (*pieces, (literal, None)))


class Finder:
    """Finds the fields of rows; rows with equal keys share one lookup of the columns."""

    def __init__(self, columns: Columns) -> None:
        """Check the given columns. Raises DataError."""
        self.given, self.remembered = sources_of(columns.given), sources_of(columns.remembered)
        self.keys: tuple[Any, ...] | None = None  # of the previous row
        self.lacking: Counter[str] = Counter()  # by column: empty cells of texts that other columns filled
        self.first_lacking: dict[str, str] = {}
        self.met: set[str] = set()  # names of columns that some row has
        self._found: dict[str, FieldSource | Wrong] = {}
        self._actual: dict[str, str] = {}  # a given name -> the name in the rows

    def fields(self, row: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        """Return the fields of a row, under our names.

        A field with an empty column is None or an empty string. Raises Wrong if a given column is missing, or
        if a name fits several columns.
        """
        keys = tuple(row)
        if keys != self.keys:
            self._look_up(keys)
        found: dict[str, Any] = {}
        for name, source in self._found.items():
            if isinstance(source, Wrong):
                raise type(source)(*source.args)  # the same object would collect the tracebacks of all rows
            if len(source.names) == 1 and not source.pieces:
                found[name] = row[self._actual[source.names[0]]]
            elif name in SPREAD:
                found[name] = {own: row[own] for own in (self._actual[said] for said in source.names)}
            else:
                found[name] = self._text(row, source, where)
        return found

    def shown(self, name: str) -> str:
        """Return the column or columns of a field, for messages."""
        source = self._found.get(name) or self.given.get(name)
        if source is None or isinstance(source, Wrong):
            return name
        return " and ".join(self._actual.get(own, own) for own in source.names)

    def named(self, message: str) -> str:
        """Return a message about a field with the name of its column, if that differs from the field's."""
        name = next((name for word, name in _WORDS.items() if message.startswith(f"{word} ")), None)
        column = None if name is None else self.shown(name)
        return message if column == name else f"{message} (column {short(column)})"

    def unmet(self) -> list[str]:
        """Return the given columns that no row has."""
        return [name for source in self.given.values() for name in source.names if name not in self.met]

    def lacks(self, name: str) -> Iterator[str]:
        """Yield a warning for each column of the file `name` that is empty in texts that others fill."""
        for column, count in self.lacking.items():
            yield (
                f"{name}: {count:,} rows have nothing in the column {column!r}, the first at "
                f"{self.first_lacking[column]}; their text is made of the other columns"
            )

    def _look_up(self, keys: tuple[Any, ...]) -> None:
        self.keys, self._found, self._actual = keys, {}, {}
        by_case: dict[str, list[str]] = {}
        for key in keys:
            if isinstance(key, str):
                by_case.setdefault(key.strip().casefold(), []).append(key)
        there, claimed = set(keys), set()
        for name in FIELDS:
            source = self.given.get(name) or self.remembered.get(name)
            if source is None:
                continue
            try:
                matched = [match for own in source.names if (match := self._match(own, there, by_case))]
            except Wrong as error:
                self._found[name] = error
                continue
            if matched and (name not in SPREAD or len(matched) == len(source.names)):
                self._found[name] = source
                claimed.update(matched)
            elif name in self.given:
                absent = " and ".join(repr(own) for own in source.names if own not in self._actual)
                self._found[name] = Absent(
                    f"{absent} missing; the row has {short(', '.join(map(str, keys)))} "
                    f"({_flag(name)} names the column)"
                )
        self.met.update(self._actual)
        free = there - claimed
        for name in FIELDS:
            for own in _OTHER_NAMES.get(name, (name,)):
                if name in self._found:
                    break
                try:
                    if self._match(own, free, by_case):
                        self._found[name] = FieldSource((own,))
                except Wrong as error:
                    self._found[name] = error

    def _match(self, name: str, there: Iterable[str], by_case: Mapping[str, list[str]]) -> str | None:
        """Return the column of this name, or else the one that differs only in case and outer spaces."""
        if name in there:
            self._actual[name] = name
            return name
        fits = [key for key in by_case.get(name.strip().casefold(), ()) if key in there]
        if len(fits) > 1:
            raise Wrong(
                f"the columns {fits[0]!r} and {fits[1]!r} both fit {name!r}; name one of them exactly"
            )
        if fits:
            self._actual[name] = fits[0]
        return fits[0] if fits else None

    def _text(self, row: Mapping[str, Any], source: FieldSource, where: str) -> str | None:
        """Return the text made of several columns; None if all of them are empty."""
        cells = {name: _cell(row.get(self._actual.get(name, name)), name) for name in source.names}
        if not any(cells.values()):
            return None
        for name, cell in cells.items():
            if not cell:
                self.lacking[name] += 1
                self.first_lacking.setdefault(name, where)
        if source.pieces:
            return "".join(literal + (cells[name] if name else "") for literal, name in source.pieces)
        return JOINER.join(cell for cell in cells.values() if cell)


class Absent(Wrong):
    """A row lacks a column."""


def _cell(value: Any, name: str) -> str:
    """Return the text of one of several columns; an empty string if it is empty."""
    if value is None or value != value:  # a missing value in a table of numbers is NaN
        return ""
    if isinstance(value, str):
        return value if value.strip() else ""
    if isinstance(value, int | float):
        return str(value)
    raise Wrong(f"column {name!r} is a {type(value).__name__} ({short(value)}); expected a text or a number")


def unpacked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a table's row with their JSON parsed into lists. Raises Wrong."""
    return {
        name: as_list(value, name) if name in LISTS and isinstance(value, str) and value.strip() else value
        for name, value in fields.items()
    }


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
