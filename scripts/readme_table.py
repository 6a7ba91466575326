"""Rewrite the quickstart table of README.md from quickstart/quickstart.json: `make quickstart`,
then `python scripts/readme_table.py`.
"""

import json
import sys
from pathlib import Path

from softcue.cli.tour import table

BEGIN, END = "<!-- quickstart:begin -->", "<!-- quickstart:end -->"
ROOT = Path(__file__).resolve().parent.parent
TOLD = (
    "Scores on the test rows, which chose nothing, with seed 0. Written by `make quickstart` and "
    "`python scripts/readme_table.py`:"
)


def block(result: Path) -> str:
    """The block between the marks, from what `softcue quickstart` wrote."""
    rows = json.loads(result.read_text(encoding="utf-8"))["rows"]
    return f"{BEGIN}\n{TOLD}\n\n{table(rows)}\n{END}"


def rewritten(readme: str, new: str, first: str = BEGIN, last: str = END) -> str:
    """The README with `new` in place of the block between two marks; ValueError where they are
    not there exactly once, in order.
    """
    before, begin, rest = readme.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end or first in rest or last in before + after:
        raise ValueError(f"expected {first} and then {last}, once each")
    return before + new + after


def main(root: Path = ROOT) -> None:
    """Rewrite the file in place."""
    result, readme = root / "quickstart" / "quickstart.json", root / "README.md"
    if not result.is_file():
        sys.exit(f"{result} does not exist; run make quickstart first")
    readme.write_text(rewritten(readme.read_text(encoding="utf-8"), block(result)), encoding="utf-8")


if __name__ == "__main__":
    main()
