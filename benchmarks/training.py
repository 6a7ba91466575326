"""Training examples per second: softcue's methods against PEFT and transformers, by default and
at their best.

Each pair takes the same batches: random ones against the default, texts of similar length together (our
group_by_length) against the best. Each method has a process of its own, as in use. Every round has batches of
its own, as an epoch has; before the rounds come some that do not count, for what the first hundred batches
make torch keep (memory, kernels for shapes) is no cost of an epoch.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks import ours, peers
from benchmarks.common import Options, Results, Turn, in_turn, paired, read_options

RIVAL = {
    "pasta": "prefix",
    "stp": "prefix",
    "spt": "prefix",
    "apt": "prefix",
    "ptuning": "prefix",
    "lora": "lora",
    "full": "full",
}
RUNS = (  # backbone, task, methods
    ("minilm", "sst2", ("pasta", "spt", "apt", "lora", "full")),
    ("minilm", "mrpc", ("pasta", "spt", "apt", "lora", "full")),
    ("minilm", "conll2003", ("pasta", "spt", "apt", "lora", "full")),
    ("minilm", "atis_intent", ("pasta",)),
    ("bert-base", "sst2", ("pasta", "full")),
)
LARGE = (
    ("bert-base", "sst2", ("pasta", "spt", "apt", "lora", "full")),
    ("roberta-large", "sst2", ("pasta", "spt", "apt", "lora", "full")),
)
BEFORE = {
    "bfloat16": 8,
    "float32": 1,
    "cuda": 1,
}  # parts of the data that come before the rounds: in bfloat16 oneDNN keeps kernels for shapes
QUICK = (("minilm", "sst2", ("pasta", "apt", "lora", "full")), ("minilm", "atis_intent", ("pasta",)))


def measure(size: str, task: str, methods: Sequence[str], options: Options) -> list[dict[str, Any]]:
    """All methods and their rivals on one task, in one alternating run."""
    examples = 2 * ours.BATCH if options.quick or size != "minilm" else 8 * ours.BATCH  # of a round
    before = BEFORE[options.kind]
    parts = (options.device, task, examples, before, before + options.repeat + 1)
    work = ours.workload(task, examples * parts[-1])
    own = {method: ("pooler", method) for method in methods}
    if "pasta" in methods and work.kind != "tag":
        own["pasta, mean pooling"] = ("mean", "pasta")
    makers: dict[tuple[str, ...], Any] = {}
    for side, (pooling, method) in own.items():
        makers[side, f"{side}, by length"] = partial(open_own, size, method, pooling, *parts)
    for rival in dict.fromkeys([*(RIVAL[method] for method in methods), "full"]):
        makers[f"{rival}, default", f"{rival}, best"] = partial(open_rival, size, rival, *parts)
    times = paired(makers, options)
    rows = []
    for side, taken in times.items():
        if side.endswith("by length"):
            continue
        row: dict[str, Any] = {
            "backbone": size,
            "task": task,
            "side": side,
            "tokens an example": work.rows / len(work.items),
            "examples/s": examples / taken.median,
            "spread": taken.spread,
        }
        if side in own:
            rival, alike = RIVAL[own[side][1]], times[f"{side}, by length"]
            row |= {"by length, examples/s": examples / alike.median, "rival": rival}
            row |= {
                "x default": times[f"{rival}, default"].over(taken),
                "x best": times[f"{rival}, best"].over(alike),
            }
            row["x full default"] = times["full, default"].over(taken)
        rows.append(row)
    return rows


def open_own(
    size: str, method: str, pooling: str, device: str, task: str, examples: int, before: int, count: int
) -> tuple[Turn, Turn]:
    """Our steps on `count` parts of the task, those that do not count behind them: batches as
    they come, and by length.
    """
    work = ours.workload(task, examples * count)
    run, parts = (
        ours.training(ours.backbone(size, device), method, work, pooling),
        work.parts(count, examples),
    )
    return open_side(run, [part.random for part in parts], before), open_side(
        run, [part.sorted for part in parts], before
    )


def open_rival(
    size: str, rival: str, device: str, task: str, examples: int, before: int, count: int
) -> tuple[Turn, Turn]:
    """A rival's steps on the same parts: by default, and at its best."""
    work = ours.workload(task, examples * count)
    default, best = (
        peers.training(peers.open_peer(size, rival, work, device), best) for best in (False, True)
    )
    parts = work.parts(count, examples)
    return in_turn(default, [part.random for part in parts[before:]]), open_side(
        best, [part.sorted for part in parts], before
    )


def open_side(run: ours.Step, parts: Sequence[ours.Batches], before: int) -> Turn:
    """A side that has made its steps that do not count."""
    for part in parts[:before]:
        run(part)
    return in_turn(run, parts[before:])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    options = read_options(__doc__, arguments)
    results = Results("training", options)
    for size, task, methods in QUICK if options.quick else LARGE if options.device == "cuda" else RUNS:
        results.add({"backbone": size, "task": task}, partial(measure, size, task, methods, options))
    results.finish()


if __name__ == "__main__":
    main()
