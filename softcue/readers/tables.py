"""Tables: reads data in memory, of any library, as the rows that a file would give.

No library is imported: a table is recognised by its methods.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from softcue.errors import DataError, short
from softcue.readers.records import RawRow

WAYS_IN = (
    "a path, a benchmark's name or hf:ID; a DataFrame, a Dataset, a list of dictionaries, (texts, labels), "
    "or a dictionary of such tables by split; or the result of open_data"
)
_MISSING = ("NAType", "NaTType")  # pandas' types of missing values, besides None and NaN


@runtime_checkable
class PandasFrame(Protocol):
    """The methods of a pandas DataFrame that are used."""

    columns: Any

    def itertuples(self, index: bool, name: str | None) -> Iterable[Any]: ...


@runtime_checkable
class PolarsFrame(Protocol):
    """The method of a polars DataFrame that is used; a LazyFrame does not have it."""

    columns: Any

    def iter_rows(self) -> Iterable[Any]: ...


@runtime_checkable
class NamedColumns(Protocol):
    """A Dataset, which gives its rows as dictionaries, or an Arrow table."""

    column_names: Any


@runtime_checkable
class ArrowTable(Protocol):
    """An Arrow table."""

    column_names: Any

    def to_pylist(self) -> list[Any]: ...


@runtime_checkable
class Array(Protocol):
    """A numpy array or scalar, a tensor, or a pandas Series."""

    def tolist(self) -> Any: ...


@runtime_checkable
class Series(Protocol):
    """A polars Series."""

    def to_list(self) -> Any: ...


@dataclass(frozen=True)
class Table:
    """One table; iterating gives its rows, with class names instead of class numbers."""

    name: str  # of the split, or of the table's type
    rows: Any
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)  # column -> names of its classes

    def __iter__(self) -> Iterator[tuple[int, RawRow]]:
        for number, row in enumerate(_rows(self.rows, self.name), start=1):
            named = {column: _named(row[column], own) for column, own in self.names.items() if column in row}
            yield number, {**row, **named}

    def unlabelled(self, column: str) -> bool:
        """Say whether every row has -1 in this column, with which the hub marks hidden labels."""
        counted = column in self.names and isinstance(self.rows, Sized)  # a streaming Dataset has no length
        return counted and len(self.rows) > 0 and set(self.rows[column]) == {-1}


def is_table(value: Any) -> bool:
    """Say whether a value is a table: a DataFrame, a Dataset, a list of rows, columns, (texts, labels)."""
    if isinstance(value, str | bytes):
        return False
    if isinstance(value, list | tuple):
        return _is_pair(value) or all(isinstance(row, Mapping) for row in value)
    if isinstance(value, Mapping):
        return bool(value) and all(_is_column(column) for column in value.values())
    return _is_frame(value)


def tables_of(value: Any) -> dict[str, Table] | None:
    """Return the tables in a value by the names of their splits; a single table has the name of its type.

    Returns None if the value is not a table.
    """
    if is_table(value):
        name = type(value).__name__
        return {name: _table(name, value)}
    if isinstance(value, Mapping) and value and all(is_table(own) for own in value.values()):
        return {str(name): _table(str(name), own) for name, own in value.items()}
    return None


def come_by_split(value: Any) -> bool:
    """Say whether a value is a dictionary of tables by the names of their splits."""
    return isinstance(value, Mapping) and not is_table(value)


def requests_of(value: Any) -> Iterable[Any]:
    """Return the rows of a table, or a list of texts, as requests; other lists are returned unchanged.

    Raises DataError.
    """
    if isinstance(value, list | tuple):
        if value and all(isinstance(item, str) for item in value):
            return [{"text": item} for item in value]
        return [_plain_request(item) for item in value]
    return list(_rows(value, type(value).__name__)) if is_table(value) else value


def class_names(features: Any) -> dict[str, Sequence[str]]:
    """Return the class names by column from a Dataset's features; a column may also be a list of classes."""
    found: dict[str, Sequence[str]] = {}
    for column, feature in (features or {}).items():
        names = getattr(getattr(feature, "feature", feature), "names", None)
        if isinstance(names, list):
            found[column] = names
    return found


def _table(name: str, value: Any) -> Table:
    return Table(name, value, class_names(getattr(value, "features", None)))


def _is_frame(value: Any) -> bool:
    return isinstance(value, PandasFrame | PolarsFrame | NamedColumns)


def _is_column(value: Any) -> bool:
    """Say whether a value is one column: a list, array or Series whose elements are not rows."""
    if isinstance(value, list | tuple):
        return not any(isinstance(item, Mapping) for item in value) and not _is_pair(value)
    return isinstance(value, Array | Series) and _is_sized(value)


def _is_pair(value: Sequence[Any]) -> bool:
    """Say whether a value is (texts, labels)."""
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_sized, value))


def _is_sized(value: Any) -> bool:
    """Say whether a value may be one of two columns: it has a length, and is no text, dictionary or table."""
    return isinstance(value, Sized) and not isinstance(value, str | bytes | Mapping) and not _is_frame(value)


def _rows(value: Any, name: str) -> Iterator[RawRow]:
    """Yield the rows of a table with plain values; a missing value is None."""
    if isinstance(value, PolarsFrame):
        columns = _columns(value.columns, name)
        rows: Iterable[Any] = value.iter_rows()
    elif isinstance(value, PandasFrame):
        columns = _columns(value.columns, name)
        rows = value.itertuples(index=False, name=None)
    elif isinstance(value, tuple) and _is_pair(value):
        columns, rows = ["text", "label"], _beside(dict(zip(("text", "label"), value, strict=True)), name)
    elif isinstance(value, Mapping):
        columns, rows = _columns(value, name), _beside(value, name)
    else:  # a list of dictionaries, or a Dataset, which gives its rows as dictionaries
        for row in value.to_pylist() if isinstance(value, ArrowTable) else value:
            yield {str(key): plain(cell) for key, cell in row.items()}
        return
    for cells in rows:
        yield dict(zip(columns, map(plain, cells), strict=True))


def _columns(given: Iterable[Any], name: str) -> list[str]:
    columns = [str(column) for column in given]
    double = next((column for at, column in enumerate(columns) if column in columns[:at]), None)
    if double is not None:
        raise DataError(f"{name} has two columns {short(double)}; give every column its own name")
    return columns


def _beside(columns: Mapping[str, Any], name: str) -> Iterable[tuple[Any, ...]]:
    """Return the rows of a table that is given by columns. Raises DataError for different lengths."""
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{count:,} of {key}" for key, count in lengths.items())
        raise DataError(
            f"{name} has columns of different lengths ({told}); expected one value in each for every row"
        )
    return zip(*columns.values(), strict=True)


def plain(value: Any) -> Any:
    """Return a table's value as a plain Python value, or None if it is missing."""
    if value is None or isinstance(value, bool | int) or type(value) is str:
        return value
    if isinstance(value, float):
        return float(value) if value == value else None
    if type(value).__name__ in _MISSING:
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Array):
        return plain(value.tolist())
    return plain(value.to_list()) if isinstance(value, Series) else value


def _plain_request(request: Any) -> Any:
    return {key: plain(value) for key, value in request.items()} if isinstance(request, Mapping) else request


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value
