"""Inference: batches of real text and one text at a time, against transformers by default and at its best.

Each method has a process of its own, as in use. Every round has texts of its own; before the rounds come some
that do not count.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks import ours, peers
from benchmarks.common import Options, Results, Turn, in_turn, paired, read_options
from softcue.base import best_dtype

RUNS = (
    ("minilm", "sst2", ("pasta", "apt", "spt", "lora")),
    ("minilm", "mrpc", ("pasta", "apt", "spt", "lora")),
    ("minilm", "conll2003", ("pasta", "apt", "lora")),
    ("minilm", "atis_intent", ("pasta",)),
    ("bert-base", "sst2", ("pasta",)),
    ("roberta-large", "sst2", ("pasta",)),
)
QUICK = (("minilm", "sst2", ("pasta", "apt")), ("minilm", "atis_intent", ("pasta",)))


def measure(size: str, task: str, methods: Sequence[str], options: Options) -> list[dict[str, Any]]:
    """One task: all sides answer its texts in batches, and one at a time."""
    few = options.quick or size != "minilm"
    # of a round
    examples = {"batches": (4 if few else 16) * ours.BATCH, "one at a time": (1 if few else 2) * ours.BATCH}
    parts: tuple[Any, ...] = (options.device, task, options.repeat + 2, *examples.values())
    sides: dict[str, Any] = {method: partial(open_own, size, method, "pooler", *parts) for method in methods}
    if ours.workload(task, ours.BATCH).kind != "tag":
        sides[f"{methods[0]}, mean pooling"] = partial(open_own, size, methods[0], "mean", *parts)
    sides["transformers, default"] = partial(open_rival, size, False, *parts)
    sides["transformers, best"] = partial(open_rival, size, True, *parts)
    times = paired(
        {tuple(f"{side}, {texts}" for texts in examples): make for side, make in sides.items()}, options
    )
    rows = []
    for texts, count in examples.items():
        for side in sides:
            taken = times[f"{side}, {texts}"]
            row: dict[str, Any] = {"backbone": size, "task": task, "texts": texts, "side": side}
            row |= {
                "examples/s": count / taken.median,
                "ms an example": 1e3 * taken.median / count,
                "spread": taken.spread,
            }
            if not side.startswith("transformers"):
                row |= {
                    f"x {how}": times[f"transformers, {how}, {texts}"].over(taken)
                    for how in ("default", "best")
                }
            rows.append(row)
    return rows


def open_own(
    size: str, method: str, pooling: str, device: str, task: str, count: int, batched: int, single: int
) -> tuple[Turn, Turn]:
    """Our answers to `count` parts of the task, the first of which does not count: in batches,
    and one at a time.
    """
    work = ours.workload(task, batched * count)
    answer = ours.prediction(ours.backbone(size, device), method, work, pooling)
    before, *parts = (part.items for part in work.parts(count, batched))
    answer(before)
    return in_turn(answer, parts), in_turn(
        lambda texts: [answer([text]) for text in texts], [part[:single] for part in parts]
    )


def open_rival(
    size: str, best: bool, device: str, task: str, count: int, batched: int, single: int
) -> tuple[Turn, Turn]:
    """transformers' answers to the same; best: bfloat16 given units for it, texts of similar
    length together.
    """
    work = ours.workload(task, batched * count)
    answer = peers.prediction(
        peers.open_peer(size, "full", work, device, best_dtype(device) if best else torch.float32)
    )
    before, *parts = work.parts(count, batched)
    answer(before.sorted)
    batches = [part.sorted if best else part.random for part in parts]
    return in_turn(answer, batches), in_turn(
        answer, [[[item] for item in part.items[:single]] for part in parts]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    options = read_options(__doc__, arguments)
    results = Results("inference", options)
    for size, task, methods in QUICK if options.quick else RUNS:
        results.add({"backbone": size, "task": task}, partial(measure, size, task, methods, options))
    results.finish()


if __name__ == "__main__":
    main()
