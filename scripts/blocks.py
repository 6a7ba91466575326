"""The code blocks of a page: what of a page's commands and programs is run, in tests and of a wheel."""

import re
import shlex

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHORT = ("--rows", "64", "--set", "epochs=1")  # what README says for a quick look


def all_blocks(page: str) -> list[tuple[str, str]]:
    """Return the language and the text of each block of a page, in order."""
    return BLOCK.findall(page)


def blocks(page: str, language: str) -> list[str]:
    """Return the text of a page's blocks of one language, in order."""
    return [text for name, text in all_blocks(page) if name == language]


def commands(text: str) -> list[str]:
    """Return the lines of a bash block that hold a command."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def shortened(command: str) -> str:
    """Return a command whose training, where it is one, takes seconds; a probe is quick as it is."""
    words = shlex.split(command, comments=True)
    if words[:2] != ["softcue", "train"] or "probe" in words:
        return command
    return shlex.join([*words, *SHORT])
