"""Entries: what is known about a stored adapter without reading it, and the rules for names."""

import re
from dataclasses import dataclass

from softcue.errors import RequestError, short
from softcue.files import JsonRecord

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,31}")  # begins with a letter, because a number is a version
NAME_RULE = "at most 96 letters, digits, '.', '_' and '-', beginning with a letter or digit"


@dataclass(frozen=True)
class Entry(JsonRecord):
    """Describes one version of a stored adapter."""

    name: str
    version: int  # counted from 1; no number is used twice
    sha256: str  # of the stored bytes
    method: str
    kind: str
    labels: int  # number of labels
    size: int  # number of stored bytes
    added: float  # seconds since 1970
    aliases: tuple[str, ...] = ()  # of this version

    @property
    def full_name(self) -> str:
        """The name with the version, such as "spam@3"."""
        return f"{self.name}@{self.version}"


def split_name(asked: str) -> tuple[str, int | str | None]:
    """Split "spam@3" into name and version, "spam@prod" into name and alias, and "spam" into name and None.

    Raises RequestError if it is not an adapter's name.
    """
    name, at, rest = asked.partition("@") if isinstance(asked, str) else ("", "", "")
    check_name(name)
    if not at:
        return name, None
    if rest.isascii() and rest.isdigit() and len(rest) <= 12 and not rest.startswith("0"):
        return name, int(rest)
    if not ALIAS.fullmatch(rest):
        raise RequestError(
            f"{short(asked)} is not an adapter's name; expected a version (1, 2, ...) or an alias after '@'"
        )
    return name, rest


def check_name(name: object) -> None:
    """Raise RequestError if this is not allowed as an adapter's name."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RequestError(f"{short(name)} is not an adapter's name; expected {NAME_RULE}")
