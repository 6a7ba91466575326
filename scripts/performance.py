"""Write docs/performance.md and its plots from what the benchmarks left in benchmarks/results:
python -m scripts.performance
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image  # matplotlib brings it

from benchmarks.common import table
from softcue.files import write_file

Row = Mapping[str, Any]
Result = Mapping[str, Any]  # what benchmarks.common.Results writes: benchmark, machine, rows
Found = Mapping[str, Mapping[str, Result]]  # of each of KINDS, the benchmarks' results by name

ROOT = Path(__file__).resolve().parent.parent
UNMEASURED = "not measured yet"
PROCESSORS = {  # what a processor is best at, and the folder of what was measured on such ones
    "bfloat16": "On processors with units for bfloat16",
    "float32": "On processors without, where everything is float32",
}
KINDS = {**PROCESSORS, "cuda": "On a GPU"}
HEAD = """# Performance

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
  on the way back.
- `softcue/kernels/gelu.cpp`: GELU and its slope come from one exponential.
- `softcue/kernels/matmul.cpp`: in float32 a frozen weight is laid out as it is multiplied, panel by panel in
  the cache, or once where few rows ask; GELU, sums and the slope's product are of the same pass.
- `softcue/kernels/thin.cpp`: LoRA's two thin products, their scale and their sum are one pass, over rows of
  any mix of seats.

Where those were not built, and for DeBERTa, whose logits add more than a number for each distance:

- `softcue/attention/layout.py`: rows lie end to end, and attention takes them in buckets of similar length
  instead of padding them to the longest; the buckets come in few sizes, so that new batches need few new
  kernels.
- `softcue/attention/buckets.py`: the way back of every gather is a gather too, where torch would add into
  zeros.
- `softcue/attention/attend.py`, `_Mix`: attention's backward is written by hand; without a way back
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
CASES = {
    "training": "task",
    "inference": "task",
    "roofline": "task",
    "mixed": "side",
    "memory": "backbone",
    "packed_sweep": "device",
}


@dataclass(frozen=True)
class Target:
    """What was to be reached by every case of one benchmark; cases are values of the column
    that CASES names.
    """

    what: str
    benchmark: str
    cases: tuple[str, ...]
    goals: Mapping[str, float]  # column -> the least, or with most=True the most, that meets it
    fixed: Row  # what else the rows have in common
    most: bool = False

    def meets(self, column: str, value: float) -> bool:
        """Whether an unrounded value is on the right side of its goal."""
        return value <= self.goals[column] if self.most else value >= self.goals[column]

    def shown(self, column: str, value: float) -> str:
        """A value with three digits, or with as many more as it takes to stand on the side of
        the goal where it is.
        """
        texts = (f"{value:.{digits}g}" for digits in range(3, 18))
        return next(text for text in texts if self.meets(column, float(text)) == self.meets(column, value))

    def row(self, results: Mapping[str, Result]) -> dict[str, str]:
        """Its line in the table of targets: the worst case decides, and a case without a row
        was not measured.
        """
        rows: Sequence[Row] = results[self.benchmark]["rows"] if self.benchmark in results else ()
        reached: list[str] = []
        verdicts: list[bool | None] = []
        for case in self.cases:
            wanted = {**self.fixed, CASES[self.benchmark]: case}
            found = next((row for row in rows if wanted.items() <= row.items()), None)
            values = [] if found is None else [(column, found[column]) for column in self.goals]
            reached.append(f"{case} {' / '.join(self.shown(*value) for value in values) or UNMEASURED}")
            verdicts.append(all(self.meets(*value) for value in values) if values else None)
        return {
            "what": self.what,
            "where": ", ".join(self.cases) + (": the worst counts" if len(self.cases) > 1 else ""),
            "target": ", ".join(
                f"{column} {'<=' if self.most else '>='} {goal:g}" for column, goal in self.goals.items()
            ),
            "reached": "; ".join(reached) if set(verdicts) != {None} else UNMEASURED,
            "met": "no" if False in verdicts else UNMEASURED if None in verdicts else "yes",
        }


def minilm(side: str, **others: str) -> Row:
    """What the rows of one side on MiniLM have in common."""
    return {"backbone": "minilm", "side": side, **others}


TEXTS, ATIS = (
    ("sst2", "mrpc", "conll2003"),
    ("atis_intent",),
)  # without conll2003 where SPT's inference and the roofline are not measured on it
PREFIXES, BATCHES, MEMORY = (
    {"x default": 3.5, "x best": 1.5},
    {"x default": 5.0, "x best": 1.4},
    {"x transformers full": 0.35},
)
TARGETS = (
    Target(
        "train PASTA against PEFT's prefix tuning",
        "training",
        TEXTS,
        {"x default": 5, "x best": 2.2},
        minilm("pasta"),
    ),
    Target(
        "train PASTA against PEFT's prefix tuning",
        "training",
        ATIS,
        {"x default": 3, "x best": 1.8},
        minilm("pasta"),
    ),
    Target(
        "train PASTA against transformers' full fine-tuning",
        "training",
        TEXTS,
        {"x full default": 7},
        minilm("pasta"),
    ),
    Target("train SPT against PEFT's prefix tuning", "training", TEXTS, PREFIXES, minilm("spt")),
    Target("train APT against PEFT's prefix tuning", "training", TEXTS, PREFIXES, minilm("apt")),
    Target(
        "train LoRA against PEFT's LoRA", "training", TEXTS, {"x default": 4, "x best": 1.7}, minilm("lora")
    ),
    Target(
        "full fine-tuning against transformers' own",
        "training",
        TEXTS,
        {"x default": 3, "x best": 1.3},
        minilm("full"),
    ),
    Target(
        "answer batches with PASTA against transformers",
        "inference",
        TEXTS,
        BATCHES,
        minilm("pasta", texts="batches"),
    ),
    Target(
        "answer batches with APT against transformers",
        "inference",
        TEXTS,
        BATCHES,
        minilm("apt", texts="batches"),
    ),
    Target(
        "answer batches with SPT against transformers",
        "inference",
        TEXTS[:2],
        BATCHES,
        minilm("spt", texts="batches"),
    ),
    Target(
        "answer batches with LoRA against transformers",
        "inference",
        TEXTS,
        BATCHES,
        minilm("lora", texts="batches"),
    ),
    Target(
        "one text with PASTA against transformers",
        "inference",
        TEXTS + ATIS,
        {"x default": 2},
        minilm("pasta", texts="one at a time"),
    ),
    Target(
        "32 tasks in one batch against bare encoder",
        "mixed",
        ("pasta", "stp"),
        {"x bare encoder": 1.05},
        {"tasks": 32},
        True,
    ),
    Target(
        "32 tasks in one batch against bare encoder",
        "mixed",
        ("spt", "apt", "ptuning"),
        {"x bare encoder": 1.2},
        {"tasks": 32},
        True,
    ),
    Target(
        "32 tasks in one batch against bare encoder",
        "mixed",
        ("gpc", "lora"),
        {"x bare encoder": 1.3},
        {"tasks": 32},
        True,
    ),
    Target(
        "peak memory, train PASTA against transformers' full",
        "memory",
        ("bert-base",),
        MEMORY,
        {"side": "softcue pasta"},
        True,
    ),
    Target(
        "speed of training against its own matrix products",
        "roofline",
        TEXTS[:2] + ATIS,
        {"fraction": 0.5},
        minilm("training"),
    ),
    Target(
        "speed of inference against its own matrix products",
        "roofline",
        TEXTS[:2] + ATIS,
        {"fraction": 0.65},
        minilm("inference"),
    ),
    Target(
        "a packed sweep of 20 PASTA runs against 20 runs of their own",
        "packed_sweep",
        ("cpu",),
        {"ratio": 0.75},
        {"runs": 20},
        True,
    ),
)


def targets(found: Found) -> str:
    """The tables of targets, and how many are met."""
    note = (
        "All but memory on MiniLM. Values are compared as measured, and shown with as many digits as "
        "the answer takes."
    )
    parts = [f"## Targets\n\n{note}\n"]
    for kind, where in PROCESSORS.items():
        rows = [target.row(found.get(kind, {})) for target in TARGETS]
        met = [row["met"] for row in rows]
        counts = (
            f"{met.count('yes')} of {len(met)} are met, {met.count('no')} are not, "
            f"{met.count(UNMEASURED)} are {UNMEASURED}."
        )
        parts.append(f"{where}: {counts}\n\n{table(rows)}\n")
    return "\n".join(parts)


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


def measured_on(machine: Row) -> str:
    """Where, with what and from which commit a file was made."""
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "torch", "transformers", "peft"))
    where = machine.get("device", machine["processor"])
    tree = "with changes that are not in it" if machine["changed"] else "without changes"
    return (
        f"Measured on {where} ({', '.join(machine['units'])}); threads: {machine['threads']}; clock: "
        f"{machine['clock']}; "
        f"rounds: {machine['rounds']}; {versions}; commit {machine['commit']}, {tree}."
    )


def section(name: str, results: Mapping[str, Result]) -> str:
    """One benchmark: what was measured on each kind of processor, or how it is measured where nothing was."""
    head = f"## {name.replace('_', ' ').capitalize()}\n\n{SECTIONS[name]}\n"
    parts = [measured(name, kind, results[kind]) for kind in KINDS if kind in results]
    return "\n".join([head, *(parts or [f"{command(name)}\n{UNMEASURED.capitalize()}.\n"])])


def command(name: str, options: str = "") -> str:
    """What makes its file."""
    return f"```bash\nSOFTCUE_DATA=FOLDER python -m benchmarks.{name}{options}\n```\n"


def measured(name: str, kind: str, result: Result) -> str:
    """The command with the options that made a file, its table, its machine and its plot."""
    options = " --threads {threads} --clock {clock} --repeat {rounds}".format_map(result["machine"])
    options += " --device cuda" if kind == "cuda" else ""
    rows = [
        {
            column: ", ".join(f"{one:.3g}" for one in value) if isinstance(value, list) else value
            for column, value in row.items()
        }
        for row in result["rows"]
    ]
    plot = f"\n![{name}, {kind}](plots/{name}-{kind}.png)\n" if name in PLOTS else ""
    parts = KINDS[kind] + ":", command(name, options) + "\n" + table(rows), measured_on(result["machine"])
    return "\n\n".join(parts) + f"\n{plot}"


def page(found: Found) -> str:
    """The whole page from the files that are there."""
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
    """Read what was measured; write the plots, then the page that shows them."""
    folder, plots = root / "benchmarks" / "results", root / "docs" / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Result]] = {kind: {} for kind in KINDS}
    for kind, results in found.items():
        for name in SECTIONS:
            if (file := folder / kind / f"{name}.json").is_file():
                results[name] = json.loads(file.read_text(encoding="utf-8"))
        for name in PLOTS.keys() & results.keys():
            write_file(plots / f"{name}-{kind}.png", png(PLOTS[name](results[name]["rows"])))
    write_file(root / "docs" / "performance.md", page(found).encode())


if __name__ == "__main__":
    main()
