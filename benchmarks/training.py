"""Training examples per second: softcue's methods against PEFT and transformers, by default and at their best.

Each pair takes the same batches: random ones against the default, texts of similar length together (our group_by_length)
against the best. Every round has batches of its own, as an epoch has; before the rounds come some that do not count, for what
the first hundred batches make torch keep (memory, kernels for shapes) is no cost of an epoch.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks import ours, peers
from benchmarks.common import Options, alternate, in_turn, read_options, write

RIVAL = {"pasta": "prefix", "stp": "prefix", "spt": "prefix", "apt": "prefix", "ptuning": "prefix", "lora": "lora", "full": "full"}
RUNS = (  # backbone, task, methods
    ("minilm", "sst2", ("pasta", "spt", "apt", "lora", "full")),
    ("minilm", "mrpc", ("pasta", "spt", "apt", "lora", "full")),
    ("minilm", "conll2003", ("pasta", "spt", "apt", "lora", "full")),
    ("minilm", "atis_intent", ("pasta",)),
    ("bert-base", "sst2", ("pasta", "full")),
)
BEFORE = 5  # parts of the data that come before the rounds
QUICK = (("minilm", "sst2", ("pasta", "apt", "lora", "full")), ("minilm", "atis_intent", ("pasta",)))


def measure(size: str, task: str, methods: Sequence[str], options: Options) -> list[dict[str, Any]]:
    """All methods and their rivals on one task, in one alternating run."""
    examples = 2 * ours.BATCH if options.quick or size != "minilm" else 8 * ours.BATCH  # of a round
    count = BEFORE + options.repeat + 1
    work = ours.workload(task, examples * count)
    parts = work.parts(count, examples)
    before, parts = parts[:BEFORE], parts[BEFORE:]
    random, sorted_ = [part.random for part in parts], [part.sorted for part in parts]
    own: dict[str, Any] = {method: ours.training(ours.backbone(size), method, work) for method in methods}
    if "pasta" in methods and work.kind != "tag":
        own["pasta, mean pooling"] = ours.training(ours.backbone(size), "pasta", work, "mean")
    sides: dict[str, Any] = {}
    for side, run in own.items():
        warm(run, before)
        sides[side] = in_turn(run, random)
        sides[f"{side}, by length"] = in_turn(run, sorted_)
    rivals = dict.fromkeys([*(RIVAL[method] for method in methods), "full"])
    for rival in rivals:
        plain = peers.training(peers.open_peer(size, rival, work), best=False)
        best = peers.training(peers.open_peer(size, rival, work), best=True)
        warm(best, before)
        sides[f"{rival}, default"] = in_turn(plain, random)
        sides[f"{rival}, best"] = in_turn(best, sorted_)
    times = alternate(sides, options)
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
            rival, alike = RIVAL[side.partition(",")[0]], times[f"{side}, by length"]
            row |= {"by length, examples/s": examples / alike.median, "rival": rival}
            row |= {"x default": times[f"{rival}, default"].over(taken), "x best": times[f"{rival}, best"].over(alike)}
            row["x full default"] = times["full, default"].over(taken)
        rows.append(row)
    return rows


def warm(run: ours.Step, parts: Sequence[ours.Workload]) -> None:
    """Steps that do not count."""
    for part in parts:
        run(part.sorted)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    options = read_options(__doc__, arguments)
    rows: list[dict[str, Any]] = []
    for size, task, methods in QUICK if options.quick else RUNS:
        rows += measure(size, task, methods, options)
    write("training", rows, options)


if __name__ == "__main__":
    main()
