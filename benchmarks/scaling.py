"""How cost grows: with the length of texts, the batch, the prefix, and the number of adapters in memory."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks import ours
from benchmarks.common import Options, Results, alternate, read_options
from softcue.base import Base
from softcue.batch import Example

LENGTHS = (16, 32, 64, 128, 256, 512)  # the last shorter by what a method shifts: positions end at 512
BATCHES = (1, 4, 16, 64, 256)
PREFIXES = (4, 16, 64, 128)
ADAPTERS = (1, 10, 100, 1000, 10_000)
Point = tuple[int, int, dict[str, Any]]  # value, texts in a forward, what differs


def forward(
    base: Base, work: ours.Workload, method: str, sizes: dict[str, int], settings: dict[str, Any]
) -> Callable[[], Any]:
    """A forward over `batch` texts of `length` tokens, spread over all adapters."""
    model = ours.serving(base, method, work, "mean", sizes.get("adapters", 1), **settings)
    length, batch, adapters = (
        min(sizes["length"], 512 - model.mixture.cue_of(0).shift),
        sizes["batch"],
        sizes.get("adapters", 1),
    )
    generator = torch.Generator().manual_seed(0)
    token = torch.randint(1000, 30000, (batch, length), generator=generator).tolist()
    examples = [Example(row, [0] * length, (0, length - 1)) for row in token]
    packed = model.pack(examples, [i * adapters // batch for i in range(batch)])

    def run() -> Any:
        with torch.inference_mode():
            return model(packed)

    return run


def measure(method: str, axis: str, points: Sequence[Point], options: Options) -> list[dict[str, Any]]:
    """One method along one axis; all its points take turns."""
    work, base = ours.workload("sst2", ours.BATCH), ours.backbone("minilm", options.device)
    sides = {}
    for value, _, given in points:
        settings = {"length": given["settings"]} if "settings" in given else {}
        sizes = {k: v for k, v in given.items() if k != "settings"}
        sides[str(value)] = forward(base, work, method, sizes, settings)
    times = alternate(sides, options)
    rows = []
    for value, texts, given in points:
        taken = times[str(value)]
        ms, rows_in = 1e3 * taken.median, texts * given["length"]
        rows.append(
            {
                "method": method,
                "axis": axis,
                "value": value,
                "ms": ms,
                "us a token": 1e3 * ms / rows_in,
                "spread": taken.spread,
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    options = read_options(__doc__, arguments)
    step = 2 if options.quick else 1
    axes: dict[str, Sequence[Point]] = {
        "length": [(n, 4096 // n, {"length": n, "batch": 4096 // n}) for n in LENGTHS[::step]],
        "batch": [(n, n, {"length": 32, "batch": n}) for n in BATCHES[::step]],
        "adapters": [(n, 32, {"length": 32, "batch": 32, "adapters": n}) for n in ADAPTERS[::step]],
    }
    results = Results("scaling", options)
    for method in ("pasta", "ptuning"):
        own = dict(axes)
        if method == "ptuning":
            own["adapters"] = own["adapters"][:3]  # 10,000 prefixes are 3 GB
            own["prefix"] = [(n, 32, {"length": 32, "batch": 32, "settings": n}) for n in PREFIXES[::step]]
        for axis, points in own.items():
            results.add({"method": method, "axis": axis}, partial(measure, method, axis, points, options))
    results.finish()


if __name__ == "__main__":
    main()
