"""Training examples per second: softcue's methods against PEFT and transformers, by default and at their best."""

from collections.abc import Sequence
from typing import Any

from benchmarks import ours, peers
from benchmarks.common import Options, alternate, read_options, write

RIVAL = {"pasta": "prefix", "stp": "prefix", "spt": "prefix", "apt": "prefix", "ptuning": "prefix", "lora": "lora", "full": "full"}
RUNS = (  # backbone, task, methods
    ("minilm", "sst2", ("pasta", "spt", "apt", "lora", "full")),
    ("minilm", "mrpc", ("pasta", "spt", "apt", "lora", "full")),
    ("minilm", "conll2003", ("pasta", "spt", "apt", "lora", "full")),
    ("minilm", "atis_intent", ("pasta",)),
    ("bert-base", "sst2", ("pasta", "full")),
)
QUICK = (("minilm", "sst2", ("pasta", "apt", "lora", "full")), ("minilm", "atis_intent", ("pasta",)))


def measure(size: str, task: str, methods: Sequence[str], options: Options) -> list[dict[str, Any]]:
    """All methods and their rivals on one task, in one alternating run."""
    work = ours.workload(task, 2 * ours.BATCH if options.quick or size != "minilm" else 8 * ours.BATCH)
    random, sorted_ = work.random, work.sorted
    sides: dict[str, Any] = {}
    for method in methods:
        run = ours.training(ours.backbone(size), method, work)
        sides[method] = lambda run=run: run(random)
    if "pasta" in methods and work.kind != "tag":
        run = ours.training(ours.backbone(size), "pasta", work, "mean")
        sides["pasta, mean pooling"] = lambda run=run: run(random)
    rivals = dict.fromkeys([*(RIVAL[method] for method in methods), "full"])
    for rival in rivals:
        plain = peers.training(peers.open_peer(size, rival, work), best=False)
        best = peers.training(peers.open_peer(size, rival, work), best=True)
        sides[f"{rival}, default"] = lambda run=plain: run(random)
        sides[f"{rival}, best"] = lambda run=best: run(sorted_)
    times = alternate(sides, options)
    rows = []
    for side, taken in times.items():
        row: dict[str, Any] = {
            "backbone": size,
            "task": task,
            "side": side,
            "tokens an example": work.rows / len(work.items),
            "examples/s": len(work.items) / taken.median,
            "spread": taken.spread,
        }
        if not side.endswith(("default", "best")):
            rival = RIVAL[side.partition(",")[0]]
            row |= {"rival": rival, "x default": times[f"{rival}, default"].over(taken), "x best": times[f"{rival}, best"].over(taken)}
            row["x full default"] = times["full, default"].over(taken)
        rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    options = read_options(__doc__, arguments)
    rows: list[dict[str, Any]] = []
    for size, task, methods in QUICK if options.quick else RUNS:
        rows += measure(size, task, methods, options)
    write("training", rows, options)


if __name__ == "__main__":
    main()
