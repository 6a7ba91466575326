"""Training examples per second: softcue's methods against PEFT and transformers, by default and at their best.

Each pair takes the same batches: random ones against the default, texts of similar length together (our group_by_length)
against the best. Each side has a process of its own, as in use. Every round has batches of its own, as an epoch has; before the
rounds come some that do not count, for what the first hundred batches make torch keep (memory, kernels for shapes) is no cost of
an epoch.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks import ours, peers
from benchmarks.common import Options, in_turn, paired, read_options, write

RIVAL = {"pasta": "prefix", "stp": "prefix", "spt": "prefix", "apt": "prefix", "ptuning": "prefix", "lora": "lora", "full": "full"}
RUNS = (  # backbone, task, methods
    ("minilm", "sst2", ("pasta", "spt", "apt", "lora", "full")),
    ("minilm", "mrpc", ("pasta", "spt", "apt", "lora", "full")),
    ("minilm", "conll2003", ("pasta", "spt", "apt", "lora", "full")),
    ("minilm", "atis_intent", ("pasta",)),
    ("bert-base", "sst2", ("pasta", "full")),
)
BEFORE = 13  # parts of the data that come before the rounds: a hundred batches
QUICK = (("minilm", "sst2", ("pasta", "apt", "lora", "full")), ("minilm", "atis_intent", ("pasta",)))


def measure(size: str, task: str, methods: Sequence[str], options: Options) -> list[dict[str, Any]]:
    """All methods and their rivals on one task, in one alternating run."""
    examples = 2 * ours.BATCH if options.quick or size != "minilm" else 8 * ours.BATCH  # of a round
    parts = (task, examples, BEFORE + options.repeat + 1)
    work = ours.workload(task, examples * parts[2])
    own = {method: ("pooler", method) for method in methods}
    if "pasta" in methods and work.kind != "tag":
        own["pasta, mean pooling"] = ("mean", "pasta")
    sides: dict[str, Any] = {}
    for side, (pooling, method) in own.items():
        sides[side] = partial(open_own, size, method, pooling, False, *parts)
        sides[f"{side}, by length"] = partial(open_own, size, method, pooling, True, *parts)
    for rival in dict.fromkeys([*(RIVAL[method] for method in methods), "full"]):
        sides[f"{rival}, default"] = partial(open_rival, size, rival, False, *parts)
        sides[f"{rival}, best"] = partial(open_rival, size, rival, True, *parts)
    times = paired(sides, options)
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
            row |= {"x default": times[f"{rival}, default"].over(taken), "x best": times[f"{rival}, best"].over(alike)}
            row["x full default"] = times["full, default"].over(taken)
        rows.append(row)
    return rows


def open_own(size: str, method: str, pooling: str, alike: bool, task: str, examples: int, count: int) -> Callable[[], None]:
    """Our steps on `count` parts of the task, those that do not count behind it; alike: texts of similar length together."""
    work = ours.workload(task, examples * count)
    return open_side(ours.training(ours.backbone(size), method, work, pooling), work.parts(count, examples), alike)


def open_rival(size: str, rival: str, best: bool, task: str, examples: int, count: int) -> Callable[[], None]:
    """A rival's steps on the same parts."""
    work = ours.workload(task, examples * count)
    run = peers.training(peers.open_peer(size, rival, work), best)
    return open_side(run, work.parts(count, examples), best)


def open_side(run: ours.Step, parts: Sequence[ours.Workload], alike: bool) -> Callable[[], None]:
    """A side that has made its steps that do not count."""
    batches = [part.sorted if alike else part.random for part in parts]
    for part in batches[:BEFORE]:
        run(part)
    return in_turn(run, batches[BEFORE:])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    options = read_options(__doc__, arguments)
    rows: list[dict[str, Any]] = []
    for size, task, methods in QUICK if options.quick else RUNS:
        rows += measure(size, task, methods, options)
    write("training", rows, options)


if __name__ == "__main__":
    main()
