"""Values: checks the texts, lists and indices of one row."""

import json
import re
from typing import Any

from softcue.errors import short

MOST_CHOICES = 1_000  # of a question, because one forward pass must have memory for all of them
MOST_WORDS = 10_000  # of a sentence, because one training step must have memory for all of them


class Wrong(Exception):
    """One row is wrong; the message says what."""


class Empty(Wrong):
    """A field is empty."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is empty")
        self.name = name


def as_text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Wrong(f"{name} is a {type(value).__name__} ({short(value)}); expected a string")
    if not value.strip():
        raise Empty(name)
    return encodable(value, name)


def encodable(value: str, name: str) -> str:
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError as error:
        raise Wrong(
            f"{name} has half a surrogate pair at character {error.start + 1}, which is not text"
        ) from None
    return value


def as_list(value: Any, name: str) -> list[Any]:
    if isinstance(value, str) and value.startswith("["):  # a list in a cell of a table
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Wrong(f"{name} is {short(value)}, which is broken JSON") from None
    if not isinstance(value, list):
        raise Wrong(f"{name} is {short(value)}; expected a list")
    return value


def as_index(label: Any, choices: tuple[str, ...]) -> int:
    if not 2 <= len(choices) <= MOST_CHOICES:
        raise Wrong(f"{len(choices):,} choices; expected 2 to {MOST_CHOICES:,}")
    integer = isinstance(label, int) and not isinstance(label, bool)
    if not integer and not (isinstance(label, str) and re.fullmatch(r"\d{1,4}", label.strip(), re.ASCII)):
        raise Wrong(f"label {short(label)} is not the index of a choice (0 to {len(choices) - 1})")
    index = int(label)
    if not 0 <= index < len(choices):
        raise Wrong(f"label {index} is not the index of a choice (0 to {len(choices) - 1})")
    return index
