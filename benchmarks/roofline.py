"""The roofline: the encoder's matrix products alone, and the fraction of their speed that
training and inference reach.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks import ours
from benchmarks.common import Options, Results, alternate, read_options
from softcue.answering.evaluation import ROW_BUDGET
from softcue.answering.evaluation import batches as token_batches
from softcue.attention.layout import Layout
from softcue.base import Base
from softcue.batch import pack
from softcue.encoder.linear import Linear
from softcue.readers.items import Item

RUNS = (("minilm", "sst2"), ("minilm", "mrpc"), ("minilm", "atis_intent"), ("bert-base", "sst2"))


def products(base: Base, batches: Sequence[Sequence[Item]], backward: bool) -> Callable[[], None]:
    """Every matrix product of every layer on the batches' rows: linear maps, and attention's in
    the encoder's own buckets.
    """
    maps = [
        module
        for layer in base.backbone.encoder.layers
        for module in layer.modules()
        if isinstance(module, Linear)
    ]
    dims, dtype, device = base.backbone.encoder.dims, maps[0].weight.dtype, maps[0].weight.device
    counts = [sum(item.rows for item in batch) for batch in batches]
    widths = {width for linear in maps for width in linear.weight.shape}
    operand = {
        (rows, width): torch.randn(rows, width).to(device, dtype) for rows in counts for width in widths
    }
    layouts = [Layout(pack([item.examples[0] for item in batch])) for batch in batches]
    shapes = [(len(bucket.row), bucket.row.shape[1]) for layout in layouts for bucket in layout.buckets]
    wide = {(b, t): torch.randn(b, dims.heads, t, dims.head).to(device, dtype) for b, t in shapes}
    square = {(b, t): torch.randn(b, dims.heads, t, t).to(device, dtype) for b, t in shapes}

    @torch.inference_mode()
    def run() -> None:
        for rows in counts:
            for linear in maps:
                outputs, inputs = linear.weight.shape
                # laid out beforehand, as in the encoder: the quickest product there is
                linear(operand[rows, inputs])
                if backward:
                    linear.back(operand[rows, outputs])
        for shape in shapes * dims.layers:
            for _ in range(3 if backward else 1):  # backward has twice as many as forward
                wide[shape] @ wide[shape].mT
                square[shape] @ wide[shape]

    return run


def measure(size: str, task: str, options: Options) -> list[dict[str, Any]]:
    """PASTA's training and inference beside their products; mean pooling, which reads every row
    of the last layer.
    """
    work = ours.workload(task, 2 * ours.BATCH if options.quick or size != "minilm" else 8 * ours.BATCH)
    base, batches = ours.backbone(size, options.device), work.random
    train, answer = ours.training(base, "pasta", work, "mean"), ours.prediction(base, "pasta", work, "mean")
    # as inference forms them
    budgeted = [[work.items[i] for i in numbers] for numbers in token_batches(work.items, ROW_BUDGET)]
    sides = {
        "training": lambda: train(batches),
        "its products": products(base, batches, True),
        "inference": lambda: answer(work.items),
        "inference's products": products(base, budgeted, False),
    }
    times = alternate(sides, options)
    pairs = (("training", "its products"), ("inference", "inference's products"))
    return [
        {
            "backbone": size,
            "task": task,
            "side": side,
            "tokens/s": work.rows / times[side].median,
            "products' tokens/s": work.rows / times[alone].median,
            "fraction": times[alone].over(times[side]),
            "spread": times[side].spread,
        }
        for side, alone in pairs
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    options = read_options(__doc__, arguments)
    results = Results("roofline", options)
    for size, task in RUNS[:1] + RUNS[2:3] if options.quick else RUNS:
        results.add({"backbone": size, "task": task}, partial(measure, size, task, options))
    results.finish()


if __name__ == "__main__":
    main()
