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
from softcue.files import write_file

ROOT = Path(__file__).resolve().parent.parent
KINDS = {**PROCESSORS, "cuda": "On a GPU"}
PAGE = """# Performance

softcue is compared with transformers and PEFT in training, answers and memory, on the same machine, model,
token ids and batches.
**default** is float32 and random batches, as transformers' Trainer has it; **best** is batches sorted by
length, and bf16 where the processor has units for it.
Figures are ratios, for the machines are shared: one kind with units for bfloat16, one without, and no GPU.

[All tables](performance-tables.md) have every figure with its command and machine, how it was measured, and
what makes it fast. `python -m scripts.performance` writes both pages.
"""
HEAD = """# Performance: all tables

[The page of one screen](performance.md) has the targets and the plots.

softcue beside transformers and PEFT: the same machine, model, token ids and batches of 32 texts, cut at 128
tokens.
`python -m scripts.performance` writes this page from the files in `benchmarks/results`; the command over each
table makes its file, and `SOFTCUE_DATA` is the folder of the data sets. There are two of most tables: of a
processor with units for bfloat16, and of one without.

- **default**: float32, random batches, dynamic padding and fused AdamW, as transformers' Trainer has it by
  default.
- **best**, or at its best: batches sorted by length, and where the processor has units for it bf16 autocast
  (bf16 weights for inference); elsewhere bf16 is many times slower than float32. PEFT: prefixes of 16, LoRA
  of rank 8.
- softcue too is in bf16 where the processor has units for it, else in float32. Training takes the same
  batches as its rival: random ones against the default, as it comes; texts of similar length together
  (`group_by_length`) against the best. Inference is given all texts and forms its own forwards, of similar
  length and up to 4,096 tokens, as `Predictor` does.
- `minilm` has its own weights. `bert-base` and `roberta-large` are models of those sizes with random weights,
  behind MiniLM's tokenizer.

The sides take turns. In training and inference each method has a process of its own, as in use, and texts of
its own in every round, after some that do not count; elsewhere all are in one process, where they share
oneDNN's cache of 1,024 products. Rivals too have the setting of `softcue/encoder/memory.py`, which spares
them page faults. A figure is the median of the rounds, an "x" the median of the ratios of rounds side by
side, and the spread half the distance of the quartiles, as a share of the median (of fewer than four rounds,
half their range). Three are of another kind: memory has one process for each side, the packed sweep is one
round of whole commands, and precision measures quality and no time. **Ratios count, seconds do not**: the
machines are shared. What each table was measured on stands under it. Nothing was run on CUDA.
"""
TAIL = """## What makes it fast

[Architecture](architecture.md#what-speed-bends) says where this departs from the plainest code.

- `softcue/kernels/attention.cpp`: attention reads each example's rows and prefix where they lie, in float32
  and in the cache, and keeps one number for each row and head; nothing is gathered, padded or stored in
  between.
- `softcue/kernels/norm.cpp`: dropout, residual and norm are one pass, and dropout's factors are drawn again
  in the backward pass.
- `softcue/kernels/gelu.cpp`: GELU and its slope come from one exponential.
- `softcue/kernels/matmul.cpp`: in float32 a frozen weight is laid out as it is multiplied, panel by panel in
  the cache, or once where few rows ask; GELU, sums and the slope's product are of the same pass.
- `softcue/kernels/thin.cpp`: LoRA's two thin products, their scale and their sum are one pass, over rows of
  any mix of seats.

Where those were not built, and for DeBERTa, whose logits add more than a number for each distance:

- `softcue/attention/layout.py`: rows lie end to end, and attention takes them in buckets of similar length
  instead of padding them to the longest; the buckets come in few sizes, so that new batches need few new
  kernels.
- `softcue/attention/buckets.py`: the backward pass of every gather is a gather too, where torch would add
  into zeros.
- `softcue/attention/products.py`: attention's backward is written by hand; without a backward pass
  `Sight.glance` is shorter still.

And everywhere:

- `softcue/kernels/dropout.py`, `keep`: dropout compares 8 random bits a number as integers.
- `softcue/encoder/core.py`: of the last layer only the rows that the head reads are computed: [CLS], or each
  word's first token.
- `softcue/encoder/linear.py`: in bfloat16 frozen weights are laid out once as the processor's kernels read
  them.
- `softcue/batch.py`: a batch is cut from one tensor, which is made and moved as a whole.
- `softcue/encoder/linear.py`, `longer`: a product's rows are rounded up to few numbers, so that new batches
  need no new kernels.
- `softcue/encoder/frozen.py`: what follows attention in a frozen layer is one step for autograd instead of
  ten, and products add the gradients of residuals.
- `softcue/encoder/memory.py`: freed memory is kept, and not returned to the system after every layer.
- `softcue/model.py`, `Model.serve`: a served cue is held in the encoder's precision, so that a forward
  converts nothing.
- `softcue/training/optim.py`, `softcue/encoder/core.py`: full fine-tuning has torch's fused AdamW, and
  gradients of the words that occur alone.
"""


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


SECTIONS: Mapping[str, str] = {
    "training": "One optimiser step a batch. Classifiers read [CLS] through the pooler, as transformers' "
    "do; with mean pooling, every row.",
    "fresh": "A training step on random batches that were never seen and on eight that come again; each "
    "side has texts of its own.",
    "inference": "Batches, and each text in a forward of its own; transformers is the bare classifier, "
    "without an adapter.",
    "mixed": "One forward over texts of many tasks, against the bare encoder on the same rows; and PEFT's "
    "two ways of doing it.",
    "scaling": "A forward, as the length of texts, the batch, the adapters in memory or the prefix grows; "
    "us: a millionth of a second.",
    "roofline": "The encoder's matrix products alone, and the fraction of their speed that training and "
    "inference with PASTA reach.",
    "kernels": "softcue beside itself without `softcue/kernels`, in one process. Tables of bfloat16 were "
    "made without them.",
    "shares": "Where a training step's time goes, batches by length, as torch's profiler sees it, whose own "
    "cost falls between operators.",
    "linear": "`softcue train --method probe`, and scikit-learn's linear model (C or alpha 1) on features of "
    "the same encoder, 2,000 rows, from texts to scores.",
    "serving": "`softcue serve` with 1,000 adapters of five methods, Zipf-distributed, 64 connections, texts "
    "of sst2; beside it the same server with one adapter, a FastAPI server that runs transformers for each "
    "request, and one that switches PEFT's adapters. Load and server share the cores. `at first`: requests a "
    "second while adapters are still read. Then four times what it answers, with a deadline of 4 seconds.",
    "cliff": "The same service with all adapters in seats, and with memory for one in a hundred: 64 clients, "
    "Zipf over 1,000 adapters of a bank.",
    "fan_out": "Eight tasks on one text, with the layers that none of them touches computed once: against "
    "eight rows in one batch, and one by one.",
    "memory": "How far the peak of a process rose above what its imports took, over four training steps.",
    "packed_sweep": "PASTA runs on sst2: one `softcue sweep`, and as many `softcue train` one after another.",
    "precision": "PASTA, means over three seeds; `from float32` is how far bfloat16 is from it, in "
    "deviations between seeds.",
}
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
