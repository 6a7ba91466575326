"""Write docs/performance.md, its plots and docs/performance-tables.md from what the benchmarks left in
benchmarks/results: python -m scripts.performance
"""

import io
import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image  # matplotlib brings it

from benchmarks.common import table
from scripts.performance_targets import PROCESSORS, UNMEASURED, Found, Result, Row, summary, targets
from scripts.performance_words import HEAD, PAGE, SECTIONS, TAIL
from softcue.files import write_file

ROOT = Path(__file__).resolve().parent.parent
KINDS = {**PROCESSORS, "cuda": "On a GPU"}


def panels(rows: Sequence[Row], column: str) -> dict[str, list[Row]]:
    """Rows by a column's value; rows without that column make one panel without a name."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.get(column, ""), []).append(row)
    return found


def bars(rows: Sequence[Row]) -> Figure:
    """How many times quicker each side is than its rival by default and at its best."""
    split = panels([row for row in rows if "x default" in row], "texts")
    longest = max(map(len, split.values()))
    figure = Figure(figsize=(2.5 + 3 * len(split), 0.8 + 0.23 * longest), layout="constrained")
    for axes, (name, own) in zip(
        figure.subplots(1, len(split), squeeze=False, sharex=True, sharey=True)[0], split.items(), strict=True
    ):
        for offset, column in ((-0.2, "x default"), (0.2, "x best")):
            axes.barh(
                [place + offset for place in range(len(own))], [row[column] for row in own], 0.4, label=column
            )
        labels = [
            " ".join([row["backbone"], row["task"], row["side"]]).removeprefix("minilm ") for row in own
        ]
        axes.set_yticks(range(len(own)), labels, fontsize="x-small")
        axes.set(xlabel="times as fast", title=name, ylim=(longest - 0.5, -0.5))
        axes.axvline(1, color="black", linewidth=0.8)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize="x-small")
    return figure


def lines(rows: Sequence[Row], line: str, across: str, up: str) -> Figure:
    """The column `up` over the column `across`, a line for each value of `line` and a panel for each axis."""
    split = panels([row for row in rows if up in row], "axis")
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(row[line] for row in rows))}
    figure = Figure(figsize=(3 + 2 * len(split), 3), layout="constrained")
    grid = figure.subplots(1, len(split), squeeze=False, sharey=True)[0]
    for axes, (name, own) in zip(grid, split.items(), strict=True):
        for label, points in panels(own, line).items():
            axes.plot(
                [row[across] for row in points],
                [row[up] for row in points],
                marker=".",
                color=colours[label],
                label=label,
            )
        axes.set(xscale="log", xlabel=name or across)
        axes.set_xticks(
            marks := sorted({row[across] for row in own}), [str(mark) for mark in marks], fontsize="small"
        )
        axes.minorticks_off()
    grid[0].set_ylabel(up)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside right upper", fontsize="x-small")
    return figure


PLOTS: Mapping[str, Callable[[Sequence[Row]], Figure]] = {
    "training": bars,
    "inference": bars,
    "mixed": lambda rows: lines(rows, "side", "tasks", "x bare encoder"),
    "scaling": lambda rows: lines(rows, "method", "value", "us a token"),
}


def wrapped(text: str) -> str:
    """A paragraph in lines of the width of the other pages."""
    return textwrap.fill(text, 110, break_long_words=False, break_on_hyphens=False)


def measured_on(machine: Row) -> str:
    """Where, with what and from which commit a file was made."""
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "torch", "transformers", "peft"))
    where = machine.get("device", machine["processor"])
    tree = "with changes that are not in it" if machine["changed"] else "without changes"
    return wrapped(
        f"Measured on {where} ({', '.join(machine['units'])}); threads: {machine['threads']}; clock: "
        f"{machine['clock']}; "
        f"rounds: {machine['rounds']}; {versions}; commit {machine['commit']}, {tree}."
    )


def section(name: str, results: Mapping[str, Result]) -> str:
    """One benchmark: what was measured on each kind of processor, or how it is measured where nothing was."""
    head = f"## {name.replace('_', ' ').capitalize()}\n\n{wrapped(SECTIONS[name])}\n"
    parts = [measured(name, kind, results[kind]) for kind in KINDS if kind in results]
    return "\n".join([head, *(parts or [f"{command(name)}\n{UNMEASURED.capitalize()}.\n"])])


def command(name: str, options: str = "") -> str:
    """What makes its file."""
    return f"```bash\nSOFTCUE_DATA=FOLDER python -m benchmarks.{name}{options}\n```\n"


def options_of(machine: Row) -> str:
    """The options that a file was made with."""
    return " --threads {threads} --clock {clock} --repeat {rounds}".format_map(machine)


def measured(name: str, kind: str, result: Result) -> str:
    """The command with the options that made a file, its table and its machine."""
    options = options_of(result["machine"])
    options += " --device cuda" if kind == "cuda" else ""
    rows = [
        {
            column: ", ".join(f"{one:.3g}" for one in value) if isinstance(value, list) else value
            for column, value in row.items()
        }
        for row in result["rows"]
    ]
    # rows of another sort begin with another column, and have a table of their own
    tables = [table(list(own)) for _, own in groupby(rows, key=lambda row: next(iter(row)))]
    shown = command(name, options) + "\n" + "\n\n".join(tables)
    parts = [KINDS[kind] + ":", shown, measured_on(result["machine"])]
    parts += ["The benchmark is unfinished; what is missing was not measured yet."] * ("unfinished" in result)
    return "\n\n".join(parts) + "\n"


def plots(found: Found) -> str:
    """One table of all plots that there are, a row for each benchmark, with links to their figures."""
    rows = []
    for name in PLOTS:
        row = {"": f"[{name}](performance-tables.md#{name})"}
        for kind, where in KINDS.items():
            if name in found.get(kind, {}):
                row[where] = f"![{name}, {kind}](plots/{name}-{kind}.png)"
        rows.append(row)
    return f"## Plots\n\n{table(rows)}\n"


def page(found: Found) -> str:
    """The page of one screen: what was measured, the targets, the plots."""
    return "\n".join([PAGE, summary(found), plots(found)])


def tables(found: Found) -> str:
    """The page with everything, from the files that are there."""
    sections = (
        section(name, {kind: results[name] for kind, results in found.items() if name in results})
        for name in SECTIONS
    )
    return "\n".join([HEAD, targets(found), *sections, TAIL])


def png(figure: Figure) -> bytes:
    """A figure as a small file: 32 colours are all that it has."""
    drawn, held = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    Image.open(drawn).convert("RGB").quantize(32).save(held, format="png", optimize=True)
    return held.getvalue()


def main(root: Path = ROOT) -> None:
    """Read what was measured; write the plots, then the pages."""
    folder, docs = root / "benchmarks" / "results", root / "docs"
    (docs / "plots").mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Result]] = {kind: {} for kind in KINDS}
    for kind, results in found.items():
        for name in SECTIONS:
            if (file := folder / kind / f"{name}.json").is_file():
                results[name] = json.loads(file.read_text(encoding="utf-8"))
        for name in PLOTS.keys() & results.keys():
            write_file(docs / "plots" / f"{name}-{kind}.png", png(PLOTS[name](results[name]["rows"])))
    write_file(docs / "performance.md", page(found).encode())
    write_file(docs / "performance-tables.md", tables(found).encode())


if __name__ == "__main__":
    main()
