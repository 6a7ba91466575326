"""Encoding: the encoding of text files, as the caller gives it or as an adapter has saved it."""

import codecs
from dataclasses import dataclass
from pathlib import Path

from softcue.errors import DataError, short

UTF8 = "utf-8"
LOOKED_AT = 1 << 20  # bytes that are checked together


@dataclass(frozen=True)
class Encoding:
    """The encoding of files, if the caller or an adapter gives one."""

    given: str | None = None  # by the caller; None: UTF-8
    remembered: str | None = None  # by the adapter, for files that are not clearly UTF-8

    def of(self, path: Path) -> str | None:
        """Return the encoding to read a file with; None means UTF-8, or that of its byte order mark."""
        if self.given is not None or self.remembered is None or _says_utf8(path):
            return self.given
        return self.remembered


def _says_utf8(path: Path) -> bool:
    """Say whether a file is UTF-8 with non-ASCII letters; files in other encodings hardly ever look so."""
    decoder, letters = codecs.getincrementaldecoder(UTF8)(), False
    try:
        with path.open("rb") as file:
            while block := file.read(LOOKED_AT):
                letters |= not decoder.decode(block).isascii()
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return letters


def as_encoding(said: "str | Encoding | None", remembered: str | None = None) -> Encoding:
    """Check a given encoding, and return it as Encoding. Raises DataError if Python does not know it."""
    return said if isinstance(said, Encoding) else Encoding(check_encoding(said), remembered)


def check_encoding(encoding: str | None) -> str | None:
    """Return the name of an encoding of text, or None. Raises DataError if Python knows no such encoding."""
    if encoding is None:
        return None
    try:
        if isinstance(encoding, str) and encoding.isprintable():
            b"a".decode(encoding)
            return encoding
    except UnicodeError:  # the encoding needs more than one byte, as UTF-16 does
        return encoding
    except LookupError:
        pass
    raise DataError(
        f"the encoding {short(encoding)} is unknown; expected a name such as utf-8, windows-1252 or utf-16"
    )
