"""Inference: batches of real text and one text at a time, against transformers by default and at its best.

Each side has a process of its own, as in use. Every round has texts of its own; before the rounds come some that do not count.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks import ours, peers
from benchmarks.common import Options, in_turn, paired, read_options, write

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
    parts = (single, task, examples, options.repeat + 2)
    sides: dict[str, Any] = {method: partial(open_own, size, method, "pooler", *parts) for method in methods}
    if ours.workload(task, examples * (options.repeat + 2)).kind != "tag":
        sides[f"{methods[0]}, mean pooling"] = partial(open_own, size, methods[0], "mean", *parts)
    sides["transformers, default"] = partial(open_rival, size, False, *parts)
    sides["transformers, best"] = partial(open_rival, size, True, *parts)
    times = paired(sides, options)
    rows = []
    for side, taken in times.items():
        row: dict[str, Any] = {"backbone": size, "task": task, "texts": "one at a time" if single else "batches", "side": side}
        row |= {"examples/s": examples / taken.median, "ms an example": 1e3 * taken.median / examples, "spread": taken.spread}
        if not side.startswith("transformers"):
            row["x default"] = times["transformers, default"].over(taken)
            row["x best"] = times["transformers, best"].over(taken)
        rows.append(row)
    return rows


def open_own(size: str, method: str, pooling: str, single: bool, task: str, examples: int, count: int) -> Callable[[], Any]:
    """Our answers to `count` parts of the task, the first of which does not count."""
    work = ours.workload(task, examples * count)
    answer = ours.prediction(ours.backbone(size), method, work, pooling)
    before, *parts = work.parts(count, examples)
    answer(before.items)
    if single:
        return in_turn(lambda texts: [answer([text]) for text in texts], [part.items for part in parts])
    return in_turn(answer, [part.items for part in parts])


def open_rival(size: str, best: bool, single: bool, task: str, examples: int, count: int) -> Callable[[], Any]:
    """transformers' answers to the same parts; best: bfloat16, texts of similar length together."""
    work = ours.workload(task, examples * count)
    answer = peers.prediction(peers.open_peer(size, "full", work, torch.bfloat16 if best else torch.float32))
    before, *parts = work.parts(count, examples)
    answer(before.sorted)
    if single:
        return in_turn(answer, [[[item] for item in part.items] for part in parts])
    return in_turn(answer, [part.sorted if best else part.random for part in parts])


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
