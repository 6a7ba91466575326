"""Excel: reads the first sheet of a workbook as raw rows, with the optional library openpyxl."""

import warnings
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from softcue.errors import DataError, short
from softcue.readers.records import Problems, RawRow


def excel_rows(path: Path, problems: Problems, encoding: str | None = None) -> Iterator[tuple[int, RawRow]]:
    """Yield the rows of a workbook's first sheet, under the names in its first row; needs openpyxl.

    Every cell is a string, as in a CSV file; an empty cell is an empty string. Empty rows are skipped.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise DataError(f"{path}: reading Excel needs openpyxl; install softcue[excel]") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in _quietly
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # the library also raises errors of the archive and of its XML
        problems.add(f"{path.name}:1", _unreadable(error))
        return
    try:
        sheets = book.worksheets
        if len(sheets) > 1:
            problems.notes.append(
                f"{path.name} has {len(sheets)} sheets; the first, {short(sheets[0].title)}, is read"
            )
        if sheets:
            sheets[0].reset_dimensions()  # the dimensions that the file states may be too small
            yield from _rows(path.name, _quietly(sheets[0].iter_rows()), problems)
    except Exception as error:
        problems.add(f"{path.name}:1", _unreadable(error))
    finally:
        book.close()


def _quietly(rows: Any) -> Iterator[Any]:
    """Yield rows without the library's warnings about formats and rules, which do not concern the values."""
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            row = next(rows, None)
        if row is None:
            return
        yield row


def _unreadable(error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
    return f"not a readable Excel file ({reason})"


def _rows(name: str, rows: Any, problems: Problems) -> Iterator[tuple[int, RawRow]]:
    """Yield rows with their numbers; a faulty row is recorded as a problem."""
    header: list[str] | None = None
    for number, cells in enumerate(rows, start=1):
        where = f"{name}:{number}"
        values = [_plain(cell.value) for cell in cells]
        while values and not values[-1]:
            values.pop()
        if not values:
            continue
        if header is None:
            header = values
            double = next((own for at, own in enumerate(header) if own and own in header[:at]), None)
            if double is not None:
                problems.add(where, f"the header names {short(double)} twice; give every column its own name")
                return
            continue
        broken = next((cell for cell in cells if cell.value is not None and cell.data_type == "e"), None)
        nameless = next(
            (at for at, v in enumerate(values) if v and (at >= len(header) or not header[at])), None
        )
        if broken is not None:
            problems.add(where, f"cell {broken.coordinate} is {broken.value}, the error of a formula")
        elif nameless is not None:
            problems.add(where, f"cell {cells[nameless].coordinate} is in a column without a name; name it")
        else:
            values += [""] * (len(header) - len(values))
            yield number, {own: value for own, value in zip(header, values, strict=True) if own}


def _plain(value: Any) -> str:
    """Return a cell's value as text, without its format."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)
