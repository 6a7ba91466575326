"""Streams: files of any format to raw rows, one at a time, with the line that each came from."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from softcue.errors import DataError, short
from softcue.readers.records import Problems, RawRow

# bytes of a line or a quoted field; beyond it the file is not the text that it claims to be
LONGEST = 1 << 26
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"
_BLANKS = re.compile(r"[ \t]+")  # not str.split(): tokens may hold other Unicode spaces

Stream = Iterator[tuple[int, RawRow]]  # line (or row) number, raw fields


def lines_of(path: Path, problems: Problems) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file with their numbers; lines that cannot be read are noted as problems."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LONGEST + 1):
            number += 1
            where = f"{path.name}:{number}"
            if len(raw) > LONGEST:
                problems.add(where, f"the line is longer than {LONGEST >> 20} MiB")
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(LONGEST)
                continue
            if number == 1:
                if raw.startswith(_UTF16):
                    problems.add(where, "the file is UTF-16; save it as UTF-8")
                    return
                raw = raw.removeprefix(_BOM)
            try:
                line = raw.decode()
            except UnicodeDecodeError as error:
                byte = raw[error.start]
                problems.add(
                    where,
                    f"byte {error.start + 1} of the line (0x{byte:02x}) is not UTF-8; save the file as UTF-8",
                )
                continue
            if "\0" in line:
                problems.add(where, f"a NUL byte at column {line.index(chr(0)) + 1}; this is not a text file")
                continue
            yield number, line


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def json_rows(path: Path, problems: Problems) -> Stream:
    """Yield the rows of a file with one JSON object a line."""
    for number, line in lines_of(path, problems):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            row = json.loads(line, parse_constant=_no_constant)
        except json.JSONDecodeError as error:
            hint = "; expected one object a line" if line.strip() in ("[", "{") else ""
            problems.add(where, f"broken JSON at column {error.colno} ({error.msg}){hint}")
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


class _Lines:
    """Lines for csv.reader, which itself does not tell where a row that spans lines began."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self.lines, self.first = lines, 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        number, line = next(self.lines)
        self.first = self.first or number
        return line


def csv_rows(path: Path, problems: Problems) -> Stream:
    """Yield the rows of a comma-separated file with a header.

    Quoted fields may hold commas, quotes and line breaks.
    """
    csv.field_size_limit(LONGEST)
    yield from _table(path, problems, delimiter=",", strict=True)


def tsv_rows(path: Path, problems: Problems) -> Stream:
    """Yield the rows of a tab-separated file with a header; quotes are text, as in GLUE's files."""
    csv.field_size_limit(LONGEST)
    yield from _table(path, problems, delimiter="\t", quoting=csv.QUOTE_NONE)


def _table(path: Path, problems: Problems, **dialect: Any) -> Stream:
    lines = _Lines(lines_of(path, problems))
    reader = csv.reader(lines, **dialect)
    header: list[str] | None = None
    while True:
        lines.first = 0
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.add(f"{path.name}:{lines.first}", f"broken row ({error})")
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


def conll_rows(path: Path, problems: Problems) -> Stream:
    """Yield the sentences of a CoNLL file: a word a line, and a blank line after each sentence.

    The first column is the word, the last its tag.
    """
    tokens: list[str] = []
    tags: list[str] = []
    start, width = 0, 0
    for number, line in lines_of(path, problems):
        line = line.rstrip("\r\n")
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


def parquet_rows(path: Path, problems: Problems) -> Stream:
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
FORMATS: dict[str, tuple[Callable[[Path, Problems], Stream], bool]] = {
    ".jsonl": (json_rows, False),
    ".json": (json_rows, False),
    ".csv": (csv_rows, True),
    ".tsv": (tsv_rows, True),
    ".parquet": (parquet_rows, True),
    ".conll": (conll_rows, False),
    ".iob": (conll_rows, False),
    ".bio": (conll_rows, False),
    ".txt": (conll_rows, False),
}
UNTYPED = (".csv", ".tsv")  # every cell is a string: numbers are recognised by how they look
# columns go by place, so that names given for them do not apply
NAMELESS = (".conll", ".iob", ".bio", ".txt")
