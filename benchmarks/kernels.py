"""What softcue/kernels is worth: training steps, batches and texts one at a time, with it and
as they are where it was not built.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any
from unittest import mock

from benchmarks import ours
from benchmarks.common import Options, Results, Turn, alternate, read_options
from softcue.kernels import library

RUNS = ("sst2", "mrpc", "conll2003"), ("pasta", "spt", "apt", "lora")
QUICK = ("sst2",), ("pasta", "spt")


def without(turn: Turn) -> None:
    """Take a turn as an installation without a compiler does."""
    with mock.patch("softcue.kernels.library", return_value=None):
        turn()


def measure(task: str, method: str, options: Options) -> list[dict[str, Any]]:
    """One method on one task."""
    work, base = ours.workload(task, (2 if options.quick else 8) * ours.BATCH), ours.backbone("minilm")
    train, answer = ours.training(base, method, work), ours.prediction(base, method, work, "pooler")
    few = work.items[: ours.BATCH]
    turns = {
        "training": (partial(train, work.sorted), len(work.items)),
        "batches": (partial(answer, work.items), len(work.items)),
        "one at a time": (lambda: [answer([item]) for item in few], len(few)),
    }
    rows = []
    for what, (turn, count) in turns.items():
        times = alternate({"with": turn, "without": partial(without, turn)}, options)
        row: dict[str, Any] = {"task": task, "side": method, "what": what}
        row |= {f"examples/s {side}": count / times[side].median for side in times}
        rows.append(row | {"x": times["without"].over(times["with"]), "spread": times["with"].spread})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    options = read_options(__doc__, arguments, devices=("cpu",))
    if library() is None:
        raise SystemExit(
            "softcue/kernels was not built here: it takes a C++ compiler at installation, and a processor "
            "with AVX2 or AVX-512"
        )
    tasks, methods = QUICK if options.quick else RUNS
    results = Results("kernels", options)
    for task, method in product(tasks, methods):
        results.add({"task": task, "side": method}, partial(measure, task, method, options))
    results.finish()


if __name__ == "__main__":
    main()
