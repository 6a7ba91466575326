"""Rewrite the tables of methods in README.md and docs/methods/README.md from the registry and the
methods' own pages: `python -m scripts.methods_table`.
"""

import re
from pathlib import Path

from scripts.readme_table import rewritten
from softcue.cues import Cue
from softcue.training.full import METHOD as FULL

BEGIN = "<!-- methods:begin, written by python -m scripts.methods_table from the methods' own pages -->"
END = "<!-- methods:end -->"
ROOT = Path(__file__).resolve().parent.parent
PLACES = {"README.md": "docs/methods/", "docs/methods/README.md": ""}  # file -> where its links lead
ROW = re.compile(r"^\| \[`([^`]+)`\]\(\S*\.md\) \|", re.MULTILINE)


def facts(method: str, root: Path) -> tuple[str, str]:
    """What the method's page says is learnt, and how certain it is that this is the published
    method; ValueError where the page does not begin with them.
    """
    file = root / "docs" / "methods" / f"{method}.md"
    found = re.match(r"# .+\n\n- learnt: (.+)\n- grade: (.+)\n\n", file.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{file} does not begin with a title and the lines '- learnt: ..' and '- grade: ..'")
    return found[1], found[2]


def with_table(text: str, links: str, root: Path) -> str:
    """The file's text with its table made anew. Rows stay in the order that they have; a new
    method comes last.
    """
    methods = [*sorted(Cue.registry), FULL]
    there = [method for method in ROW.findall(text) if method in methods]
    order = [*there, *(method for method in methods if method not in there)]
    rows = [f"| [`{method}`]({links}{method}.md) | {' | '.join(facts(method, root))} |" for method in order]
    table = "\n".join([BEGIN, "", "| method | what is learnt | grade |", "|---|---|---|", *rows, "", END])
    return rewritten(text, table, BEGIN, END)


def main(root: Path = ROOT) -> None:
    """Rewrite both files in place."""
    for name, links in PLACES.items():
        text = (root / name).read_text(encoding="utf-8")
        (root / name).write_text(with_table(text, links, root), encoding="utf-8")


if __name__ == "__main__":
    main()
