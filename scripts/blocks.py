"""The code blocks of a page: what of a page's commands and programs is run, in tests and of a wheel."""

import re

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str, language: str | None = None) -> list[str]:
    """Return the text of a page's blocks of a language, in order; of all, with no language."""
    return [text for name, text in BLOCK.findall(page) if language in (None, name)]


def languages(page: str) -> set[str]:
    """Return the languages that a page's blocks name."""
    return {name for name, _ in BLOCK.findall(page)}


def commands(page: str) -> list[str]:
    """Return the lines of a page's bash blocks that hold a command."""
    lines = [line.strip() for text in blocks(page, "bash") for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
