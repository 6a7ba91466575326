"""The targets of softcue's speed, and the tables that say which are met; scripts.performance writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.common import table

Row = Mapping[str, Any]
Result = Mapping[str, Any]  # what benchmarks.common.Results writes: benchmark, machine, rows
Found = Mapping[str, Mapping[str, Result]]  # of each of KINDS, the benchmarks' results by name

UNMEASURED = "not measured yet"
PROCESSORS = {  # what a processor is best at, and the folder of what was measured on such ones
    "bfloat16": "On processors with units for bfloat16",
    "float32": "On processors without, where everything is float32",
}
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

    def reached(self, results: Mapping[str, Result]) -> dict[str, dict[str, float]]:
        """The values of each case by column; none where a case has no row, for it was not measured."""
        rows: Sequence[Row] = results[self.benchmark]["rows"] if self.benchmark in results else ()
        found: dict[str, dict[str, float]] = {}
        for case in self.cases:
            wanted = {**self.fixed, CASES[self.benchmark]: case}
            own = next((row for row in rows if wanted.items() <= row.items()), None)
            found[case] = {} if own is None else {column: own[column] for column in self.goals}
        return found

    def met(self, results: Mapping[str, Result]) -> str:
        """Yes or no: the worst case decides, as far as cases were measured."""
        reached = self.reached(results).values()
        if any(not self.meets(*value) for values in reached for value in values.items()):
            return "no"
        return "yes" if all(reached) else UNMEASURED

    def goal(self) -> str:
        """What is to be reached."""
        sign = "<=" if self.most else ">="
        return ", ".join(f"{column} {sign} {goal:g}" for column, goal in self.goals.items())

    def row(self, results: Mapping[str, Result]) -> dict[str, str]:
        """Its line in a full table of targets, with the values of every case."""
        reached = self.reached(results)
        cases = [
            f"{case} {' / '.join(self.shown(*value) for value in values.items()) or UNMEASURED}"
            for case, values in reached.items()
        ]
        return {
            "what": self.what,
            "where": ", ".join(self.cases) + (": the worst counts" if len(self.cases) > 1 else ""),
            "target": self.goal(),
            "reached": "; ".join(cases) if any(reached.values()) else UNMEASURED,
            "met": self.met(results),
        }

    def brief(self, results: Mapping[str, Result]) -> str:
        """Whether it is met, and the worst value of each column."""
        met, reached = self.met(results), [values for values in self.reached(results).values() if values]
        if met == UNMEASURED:
            return met
        worst = max if self.most else min
        values = ((column, worst(values[column] for values in reached)) for column in self.goals)
        return f"{met}: {' / '.join(self.shown(*value) for value in values)}"


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


def summary(found: Found) -> str:
    """One table of all targets, with a column for each kind of processor, and how many are met."""
    heads = {"bfloat16": "with units for bfloat16", "float32": "without"}
    counts = []
    for kind, head in heads.items():
        met = [target.met(found.get(kind, {})) for target in TARGETS]
        left = f", {met.count(UNMEASURED)} {UNMEASURED}" if UNMEASURED in met else ""
        counts.append(f"{met.count('yes')} of {len(met)} {head}{left}")
    rows = [
        {
            "what": target.what,
            "on": ", ".join(target.cases),
            "target": target.goal(),
            **{head: target.brief(found.get(kind, {})) for kind, head in heads.items()},
        }
        for target in TARGETS
    ]
    note = f"Targets met on processors: {'; '.join(counts)}."
    worst = "If a row has several data sets or methods, each figure is the worst of them."
    return f"## Targets\n\n{note}\n{worst}\n\n{table(rows)}\n"


def targets(found: Found) -> str:
    """The full tables of targets, and how many are met."""
    note = (
        "All targets but memory are on MiniLM. Unrounded values are compared; shown are as many digits as "
        "needed."
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
