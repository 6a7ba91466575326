"""Streams: read raw rows from files of any format, one at a time, each with its line number."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

from softcue.errors import DataError, short
from softcue.readers.excel import excel_rows
from softcue.readers.lines import LONGEST, lines_of
from softcue.readers.records import Problems, RawRow

_SPACE = re.compile(r"[ \t\r\n]*")
_BLANKS = re.compile(r"[ \t]+")  # not str.split(): tokens may have other Unicode spaces in them

Stream = Iterator[tuple[int, RawRow]]  # line (or row) number, raw fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object after checking that no key occurs twice; the parser would drop one of them."""
    found = dict(pairs)
    if len(found) < len(pairs):
        double = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {short(double)} occurs twice in an object")
    return found


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_once)


def json_rows(path: Path, problems: Problems, encoding: str | None = None) -> Stream:
    """Yield the rows of a file that has one JSON object on each line, or one list of objects."""
    lines = lines_of(path, problems, encoding)
    first = next((line for line in lines if line[1].strip()), None)
    if first is None:
        return
    if first[1].lstrip().startswith("["):
        yield from _listed(path, problems, first, lines)
        return
    for number, line in chain([first], lines):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            row = _DECODER.decode(line)
        except json.JSONDecodeError as error:
            problems.add(where, _broken(error, "; expected one object a line" * (line.strip() == "{")))
        except RecursionError:
            problems.add(where, "JSON nested too deeply; expected one flat object a line")
        except ValueError as error:
            problems.add(where, f"broken JSON ({str(error)[:80]})")
        else:
            if isinstance(row, dict):
                yield number, row
            else:
                problems.add(
                    where,
                    f"a JSON {type(row).__name__}; expected one object a line, such as {{'text': ..., "
                    f"'label': ...}}",
                )


def _listed(
    path: Path, problems: Problems, first: tuple[int, str], lines: Iterable[tuple[int, str]]
) -> Stream:
    """Yield the objects of a file that is one JSON list, each with the number of its first line."""
    before = problems.count
    text = "".join(line for _, line in chain([first], lines))
    if problems.count > before:
        return  # lines are missing from the list
    number, counted, at = first[0], 0, text.index("[") + 1
    opening = True
    while True:
        at = _space(text, at)
        number, counted = number + text.count("\n", counted, at), at
        where = f"{path.name}:{number}"
        if text[at : at + 1] == "]" and opening:
            break
        try:
            row, at = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            problems.add(f"{path.name}:{first[0] + text.count(chr(10), 0, error.pos)}", _broken(error))
            return
        except RecursionError:
            problems.add(where, "JSON nested too deeply; expected a list of flat objects")
            return
        except ValueError as error:
            problems.add(where, f"broken JSON ({str(error)[:80]})")
            return
        if isinstance(row, dict):
            yield number, row
        else:
            problems.add(where, f"a JSON {type(row).__name__} in the list; expected only objects")
        at, opening = _space(text, at), False
        if text[at : at + 1] != ",":
            break
        at += 1
    end = f"{path.name}:{number + text.count(chr(10), counted, at)}"
    if text[at : at + 1] != "]":
        problems.add(end, "a comma is missing in the list, or the bracket at its end")
    elif text[at + 1 :].strip():
        problems.add(end, "there is more text after the list; expected the end of the file")


def _space(text: str, at: int) -> int:
    """Return the end of the JSON white space that begins at `at`."""
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _broken(error: json.JSONDecodeError, hint: str = "") -> str:
    return f"broken JSON at column {error.colno} ({error.msg}){hint}"


class _Lines:
    """Lines for csv.reader; they remember the first line of a row, which csv.reader itself does not give."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self.lines, self.first = lines, 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        number, line = next(self.lines)
        self.first = self.first or number
        return line


def csv_rows(path: Path, problems: Problems, encoding: str | None = None) -> Stream:
    """Yield the rows of a file with a header; commas, semicolons or tabs separate its cells.

    Quoted fields may contain separators, quotes and line breaks.
    """
    lines = lines_of(path, problems, encoding)
    first = next((line for line in lines if line[1].strip()), None)
    if first is not None:
        yield from _table(path, problems, chain([first], lines), delimiter=separator(first[1]), strict=True)


def separator(header: str) -> str:
    """Return the separator of a header: comma, semicolon or tab, whichever gives the most names.

    Quoted separators do not count. Among equals the comma comes first, then the semicolon.
    """
    bare = "".join(header.split('"')[::2])
    return max(",;\t", key=bare.count)


def tsv_rows(path: Path, problems: Problems, encoding: str | None = None) -> Stream:
    """Yield the rows of a tab-separated file with a header; quotes have no meaning, as in GLUE's files."""
    lines = lines_of(path, problems, encoding)
    yield from _table(path, problems, lines, delimiter="\t", quoting=csv.QUOTE_NONE)


def _table(path: Path, problems: Problems, own: Iterable[tuple[int, str]], **dialect: Any) -> Stream:
    csv.field_size_limit(LONGEST)
    lines = _Lines(iter(own))
    reader = csv.reader(lines, **dialect)
    header: list[str] | None = None
    while True:
        lines.first = 0
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = "a carriage return without a line feed" if "new-line" in str(error) else error
            problems.add(f"{path.name}:{lines.first}", f"broken row ({reason})")
            continue
        where = f"{path.name}:{lines.first}"
        if not cells:
            continue
        if header is None:
            header = cells
            double = min((name for name, count in Counter(header).items() if count > 1), default=None)
            if double is not None:
                problems.add(where, f"the header names {short(double)} twice; give every column its own name")
                return
        elif len(cells) != len(header):
            problems.add(where, f"{len(cells)} columns; the header has {len(header)}")
        else:
            yield lines.first, dict(zip(header, cells, strict=True))


def conll_rows(path: Path, problems: Problems, encoding: str | None = None) -> Stream:
    """Yield the sentences of a CoNLL file, with one word on each line and a blank line after each sentence.

    The first column is the word, the last its tag.
    """
    tokens: list[str] = []
    tags: list[str] = []
    start, width = 0, 0
    for number, line in lines_of(path, problems, encoding):
        line = line.rstrip("\r\n")
        if "\r" in line:
            problems.add(
                f"{path.name}:{number}",
                "a carriage return without a line feed; save the file with line feeds",
            )
            continue
        if not line.strip():
            if tokens:
                yield start, {"tokens": tokens, "tags": tags}
                tokens, tags = [], []
            continue
        cells = line.rstrip("\t ").split("\t") if "\t" in line.strip() else _BLANKS.split(line.strip(" \t"))
        if cells[0] == "-DOCSTART-":
            continue
        width = width or len(cells)
        if len(cells) < 2 or len(cells) != width:
            expected = max(width, 2)
            problems.add(
                f"{path.name}:{number}",
                f"{len(cells)} columns in {short(line)}; expected {expected}: the word first, its tag last",
            )
            continue
        start = start if tokens else number
        tokens.append(cells[0])
        tags.append(cells[-1])
    if tokens:
        yield start, {"tokens": tokens, "tags": tags}


def parquet_rows(path: Path, problems: Problems, encoding: str | None = None) -> Stream:
    """Yield the rows of a Parquet file; needs pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{path}: reading Parquet needs pyarrow; install softcue[hf]") from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        problems.add(f"{path.name}:1", f"not a readable Parquet file ({str(error).splitlines()[0][:120]})")


# suffix -> stream, and whether all rows have the same columns
FORMATS: dict[str, tuple[Callable[[Path, Problems, str | None], Stream], bool]] = {
    ".jsonl": (json_rows, False),
    ".json": (json_rows, False),
    ".csv": (csv_rows, True),
    ".tsv": (tsv_rows, True),
    ".xlsx": (excel_rows, True),
    ".parquet": (parquet_rows, True),
    ".conll": (conll_rows, False),
    ".iob": (conll_rows, False),
    ".bio": (conll_rows, False),
    ".txt": (conll_rows, False),
}
UNTYPED = (".csv", ".tsv", ".xlsx")  # every cell is a string: numbers are recognised by their spelling
# formats without column names
NAMELESS = (".conll", ".iob", ".bio", ".txt")
