"""Entries: what is known of a stored adapter without reading it, and how adapters are named."""

import re
from dataclasses import dataclass

from softcue.errors import RequestError, short
from softcue.files import JsonRecord

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,31}")  # begins with a letter: a number is a version
NAME_RULE = "letters, digits, '.', '_' and '-', a letter or digit first, 96 at most"


@dataclass(frozen=True)
class Entry(JsonRecord):
    """One version of one stored adapter."""

    name: str
    version: int  # counts from 1; a number is never given twice
    sha256: str  # of the stored bytes
    method: str
    kind: str
    labels: int  # how many
    size: int  # bytes stored
    added: float  # seconds since 1970
    aliases: tuple[str, ...] = ()  # of this version

    @property
    def full_name(self) -> str:
        """The name with the version, as in "spam@3"."""
        return f"{self.name}@{self.version}"


def split_name(asked: str) -> tuple[str, int | str | None]:
    """Return name and version of "spam@3", name and alias of "spam@prod", or name and None of "spam".

    Raises RequestError for what is no name.
    """
    name, at, rest = asked.partition("@") if isinstance(asked, str) else ("", "", "")
    check_name(name)
    if not at:
        return name, None
    if rest.isascii() and rest.isdigit() and len(rest) <= 12 and not rest.startswith("0"):
        return name, int(rest)
    if not ALIAS.fullmatch(rest):
        raise RequestError(
            f"{short(asked)} is no adapter's name; after '@' a version (1, 2, ...) or an alias is expected"
        )
    return name, rest


def check_name(name: object) -> None:
    """Refuse what no adapter can be called. Raises RequestError."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RequestError(f"{short(name)} is no adapter's name; expected {NAME_RULE}")
