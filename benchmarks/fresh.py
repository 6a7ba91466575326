"""Fresh batches: what a training step costs on batches that were never seen, beside batches
that come again and again.

Libraries keep what they made ready for the shapes that they saw; an epoch brings new shapes all the time.
"""

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks import ours, peers
from benchmarks.common import CLOCKS, Options, Results, read_options, settle

SIDES: dict[str, Callable[[ours.Workload, str], ours.Step]] = {
    "pasta": lambda work, device: ours.training(ours.backbone("minilm", device), "pasta", work),
    "lora": lambda work, device: ours.training(ours.backbone("minilm", device), "lora", work),
    "full": lambda work, device: ours.training(ours.backbone("minilm", device), "full", work),
    "prefix, best": lambda work, device: peers.training(
        peers.open_peer("minilm", "prefix", work, device), best=True
    ),
    "full, best": lambda work, device: peers.training(
        peers.open_peer("minilm", "full", work, device), best=True
    ),
}
AGAIN = 8  # batches that come again


def measure(side: str, work: ours.Workload, options: Options) -> list[dict[str, Any]]:
    """Steps on a batch that comes again and on a new one in turn; times are for each token, for
    batches differ in size.
    """
    clock, step, batches = CLOCKS[options.clock], SIDES[side](work, options.device), work.random
    known, fresh = batches[:AGAIN], batches[AGAIN:]
    for _ in range(3):
        step(known)
    taken: dict[str, list[float]] = {"known": [], "fresh": []}
    for number, new in enumerate(fresh):
        for name, batch in (("known", known[number % AGAIN]), ("fresh", new)):
            began = clock()
            step([batch])
            settle()
            taken[name].append(1e6 * (clock() - began) / sum(item.rows for item in batch))
    middle = {name: statistics.median(times) for name, times in taken.items()}
    columns = {f"us a token, {name} batches": value for name, value in middle.items()}
    ratio = {"fresh over known": middle["fresh"] / middle["known"]}
    return [{"task": work.task, "side": side, **columns, **ratio}]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it: texts of its own for each side, in batches as they come."""
    options = read_options(__doc__, arguments)
    results = Results("fresh", options)
    count = (AGAIN + (12 if options.quick else 20 * options.repeat)) * ours.BATCH
    parts = ours.workload("sst2", count * len(SIDES)).parts(len(SIDES), count)
    for side, part in zip(SIDES, parts, strict=True):
        results.add({"side": side}, partial(measure, side, part, options))
    results.finish()


if __name__ == "__main__":
    main()
