"""Encoding: what text files are written in, as it was said or as an adapter remembers it."""

import codecs
from dataclasses import dataclass
from pathlib import Path

from softcue.errors import DataError, short

UTF8 = "utf-8"
LOOKED_AT = 1 << 20  # bytes that are looked at together


@dataclass(frozen=True)
class Encoding:
    """What is said of how files are written."""

    given: str | None = None  # by the caller; None: UTF-8
    remembered: str | None = None  # by the adapter: of files that are not plainly UTF-8

    def of(self, path: Path) -> str | None:
        """Return what to read a file as; None is UTF-8, or what its mark says."""
        if self.given is not None or self.remembered is None or _says_utf8(path):
            return self.given
        return self.remembered


def _says_utf8(path: Path) -> bool:
    """Say whether a file is UTF-8 and no ASCII: what any other encoding makes of letters is hardly ever."""
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
    """Return what is said of an encoding, checked. Raises DataError for a name that Python does not know."""
    return said if isinstance(said, Encoding) else Encoding(check_encoding(said), remembered)


def check_encoding(encoding: str | None) -> str | None:
    """Return the name of an encoding of text, or None. Raises DataError if Python knows no such encoding."""
    if encoding is None:
        return None
    try:
        if isinstance(encoding, str) and encoding.isprintable():
            b"a".decode(encoding)
            return encoding
    except UnicodeError:  # one letter is not enough of it, as in UTF-16
        return encoding
    except LookupError:
        pass
    raise DataError(
        f"the encoding {short(encoding)} is unknown; expected a name such as utf-8, windows-1252 or utf-16"
    )
