"""Inference: batches of real text and one text at a time, against transformers by default and at its best.

Every round has texts of its own; before the rounds come some that do not count.
"""

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks import ours, peers
from benchmarks.common import Options, alternate, in_turn, read_options, write

RUNS = (
    ("minilm", "sst2", ("pasta", "apt", "spt", "lora")),
    ("minilm", "mrpc", ("pasta", "apt", "spt", "lora")),
    ("minilm", "conll2003", ("pasta", "apt", "lora")),
    ("minilm", "atis_intent", ("pasta",)),
    ("bert-base", "sst2", ("pasta",)),
    ("roberta-large", "sst2", ("pasta",)),
)
QUICK = (("minilm", "sst2", ("pasta", "apt")), ("minilm", "atis_intent", ("pasta",)))


def measure(size: str, task: str, methods: Sequence[str], single: bool, options: Options) -> list[dict[str, Any]]:
    """One task; single: each text in a forward of its own."""
    few = options.quick or size != "minilm"
    examples = (ours.BATCH if single else 4 * ours.BATCH) if few else (2 * ours.BATCH if single else 16 * ours.BATCH)  # of a round
    work = ours.workload(task, examples * (options.repeat + 2))
    before, *parts = work.parts(options.repeat + 2, examples)
    alone = [[[item] for item in part.items] for part in parts]
    sides: dict[str, Any] = {}
    for method in methods:
        for pooling in ("pooler", "mean") if method == methods[0] and work.kind != "tag" else ("pooler",):
            answer = ours.prediction(ours.backbone(size), method, work, pooling)
            name = method if pooling == "pooler" else f"{method}, mean pooling"
            answer(before.items)
            run = (lambda texts, answer=answer: [answer(text) for text in texts]) if single else answer
            sides[name] = in_turn(run, alone if single else [part.items for part in parts])
    plain = peers.prediction(peers.open_peer(size, "full", work))
    half = peers.prediction(peers.open_peer(size, "full", work, torch.bfloat16))
    half(before.sorted)
    sides["transformers, default"] = in_turn(plain, alone if single else [part.random for part in parts])
    sides["transformers, best"] = in_turn(half, alone if single else [part.sorted for part in parts])
    times = alternate(sides, options)
    rows = []
    for side, taken in times.items():
        row: dict[str, Any] = {"backbone": size, "task": task, "texts": "one at a time" if single else "batches", "side": side}
        row |= {"examples/s": examples / taken.median, "ms an example": 1e3 * taken.median / examples, "spread": taken.spread}
        if not side.startswith("transformers"):
            row["x default"] = times["transformers, default"].over(taken)
            row["x best"] = times["transformers, best"].over(taken)
        rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    options = read_options(__doc__, arguments)
    rows: list[dict[str, Any]] = []
    for size, task, methods in QUICK if options.quick else RUNS:
        for single in (False, True):
            rows += measure(size, task, methods, single, options)
    write("inference", rows, options)


if __name__ == "__main__":
    main()
