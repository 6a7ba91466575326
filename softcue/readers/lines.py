"""Lines: reads the numbered lines of a text file in any encoding."""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from softcue.readers.encoding import UTF8
from softcue.readers.records import Problems

# most bytes of a line or a quoted field; a file with longer ones is not the text file that its name says
LONGEST = 1 << 26
# byte order marks and their encodings; UTF-32's mark begins with that of UTF-16, so it comes first
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, UTF8),
)
_BROKEN = "\udfff"  # replaces bytes that cannot be decoded; no decoder gives this for other bytes


def _broken(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _BROKEN, error.end


codecs.register_error("softcue.broken", _broken)


def lines_of(path: Path, problems: Problems, encoding: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers; lines that cannot be read are recorded as problems.

    encoding: None means UTF-8. A byte order mark at the beginning of the file overrides it.
    """
    with path.open("rb") as file:
        start = file.read(4)
        mark, marked = next(((m, name) for m, name in _MARKS if start.startswith(m)), (b"", None))
        written = codecs.lookup(marked or encoding or UTF8).name
        file.seek(len(mark) if marked == UTF8 else 0)
        if written == UTF8:
            yield from _utf8(file, path.name, problems)
        else:
            yield from _other(file, path.name, problems, encoding if marked is None else marked)


def _utf8(file: BinaryIO, name: str, problems: Problems) -> Iterator[tuple[int, str]]:
    number = 0
    while raw := file.readline(LONGEST + 1):
        number += 1
        where = f"{name}:{number}"
        if len(raw) > LONGEST:
            problems.add(where, f"the line is longer than {LONGEST >> 20} MiB")
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(LONGEST)
            continue
        try:
            line = raw.decode()
        except UnicodeDecodeError as error:
            byte = raw[error.start]
            problems.add(
                where,
                f"byte {error.start + 1} of the line (0x{byte:02x}) is not UTF-8; save the file as UTF-8, or "
                "give its encoding, as in --encoding windows-1252",
            )
            continue
        if "\0" in line:
            problems.add(where, f"a NUL byte at column {line.index(chr(0)) + 1}; this is not a text file")
            continue
        yield number, line


def _other(file: BinaryIO, name: str, problems: Problems, encoding: str | None) -> Iterator[tuple[int, str]]:
    text = io.TextIOWrapper(file, encoding=encoding, errors="softcue.broken", newline="\n")
    number = 0
    try:
        while line := text.readline(LONGEST + 1):
            number += 1
            where = f"{name}:{number}"
            if len(line) > LONGEST:
                problems.add(where, f"the line is longer than {LONGEST >> 20} MiB")
                while line and not line.endswith("\n"):
                    line = text.readline(LONGEST)
            elif _BROKEN in line:
                at = line.index(_BROKEN) + 1
                problems.add(where, f"character {at} of the line is not {encoding}; give another --encoding")
            elif "\0" in line:
                at = line.index("\0") + 1
                problems.add(
                    where, f"a NUL byte at column {at}; the file is not {encoding}, or not a text file"
                )
            else:
                yield number, line
    except UnicodeError as error:  # this encoding cannot be decoded further after a mistake
        problems.add(f"{name}:{number + 1}", f"the file is not {encoding} ({str(error)[:80]})")
    finally:
        text.detach()
