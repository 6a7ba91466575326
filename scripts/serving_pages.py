"""Rewrite the figures in docs/bank.md, docs/fan-out.md and docs/serving.md from what the benchmarks of bank,
fan_out and serving left in benchmarks/results/float32: python -m scripts.serving_pages
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import table
from scripts.performance import command, measured_on, options_of
from scripts.readme_table import rewritten

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path("benchmarks/results/float32")
BEGIN = "<!-- figures:begin, written by python -m scripts.serving_pages -->"
END = "<!-- figures:end -->"
Result = Mapping[str, Any]
MEGABYTE = 1e6


def bank(result: Result) -> str:
    """What a bank takes, in processor time."""
    rows = {row["what"]: row for row in result["rows"]}
    count = rows["sound records of 30 KB, each"]["adapters"]
    size = rows["bytes"]

    def middle(what: str) -> str:
        return _milliseconds(rows[what]["processor ms, p50"])

    def both(what: str) -> str:
        return f"{middle(what)}; {_milliseconds(rows[what]['processor ms, p99'])}"

    lines = {
        f"add one adapter to an empty bank; to one of {count:,}": f"{middle('add to an empty bank')}; "
        f"{middle(f'add behind {count:,}')}",
        "add many, each": middle("add_all, each"),
        **{
            f"find and load {size} from a {disk}: middle; 99th percentile": both(
                f"find and load {size}, {disk}"
            )
            for size in ("30 KB", "300 KB")
            for disk in ("cold disk", "warm disk")
        },
        "find": middle("find"),
        "a page of 100 entries; counting the names": f"{middle('page of 100')}; {middle('count')}",
        "a search that finds nothing": middle("search that finds nothing"),
        "resident memory that a reader gains": f"{rows['resident memory of a reader grew, MB']['MB']:.1f} MB",
        "index; slabs": f"{size['index'] / MEGABYTE:,.0f} MB; {size['live'] / MEGABYTE:,.0f} MB",
        f"compaction that frees {rows['compaction']['freed'] / MEGABYTE:,.0f} MB": middle("compaction"),
    }
    return table([{"what": what, "processor time": value} for what, value in lines.items()])


def fan_out(result: Result) -> str:
    """What eight tasks on one text take, of eight rows."""
    columns = {
        "case": "adapters",
        "shares layers": "layers shared",
        "of eight rows": "of eight rows in one batch",
        "of one by one": "of eight rows one by one",
    }
    return table([{new: row[old] for old, new in columns.items()} for row in result["rows"]])


def serving(result: Result) -> str:
    """What the server does beside others, as ratios."""
    sides = [row for row in result["rows"] if "side" in row]
    most = sides[0]
    return table(
        [
            {
                "server": row["side"],
                "requests/s, of the first": row["requests/s"] / most["requests/s"],
                "p50 ms": row["p50 ms"],
                "p99 ms": row["p99 ms"],
                "memory MB": row["memory MB"],
            }
            for row in sides
        ]
    )


PAGES: Mapping[str, Callable[[Result], str]] = {"bank": bank, "fan_out": fan_out, "serving": serving}


def _milliseconds(value: float) -> str:
    return f"{value / 1000:.2g} s" if value >= 1000 else f"{value:.2g} ms"


def block(name: str, result: Result) -> str:
    """The figures with their command and machine, between the marks."""
    machine = result["machine"]
    parts = [BEGIN, command(name, options_of(machine)), PAGES[name](result), "", measured_on(machine)]
    parts += ["", "The benchmark is unfinished."] * ("unfinished" in result)
    return "\n".join([*parts, END])


def main(root: Path = ROOT) -> None:
    """Rewrite the pages in place."""
    for name in PAGES:
        page = root / "docs" / f"{name.replace('_', '-')}.md"
        result = json.loads((root / RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        text = rewritten(page.read_text(encoding="utf-8"), block(name, result), BEGIN, END)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
