"""Printing: JSON, tables and lines, without control characters that a terminal would obey."""

import json
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from softcue.errors import one_line, visible


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(visible(json.dumps(value, indent=2, ensure_ascii=False)))


def print_table(table: Table) -> None:
    """Print a table; if the output is not a terminal, its width is not limited to one."""
    Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False).print(table)


def print_line(line: str, file: TextIO | None = None) -> None:
    """Print one line."""
    print(one_line(line), file=file)
