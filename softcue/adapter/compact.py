"""Compact heads: head.weight in half or a quarter of its bytes, as a file holds it.

In memory it is always float32, with exactly the values that the file stores.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from softcue.errors import AdapterError

PRECISIONS = ("float32", "float16", "int8")  # of head.weight in the file
WEIGHT, SCALE = "head.weight", "head.scale"
LARGEST_INT8 = 127
# A row whose largest number is smaller is stored as zeros: its scale would have too few digits.
SMALLEST = 1e-30
LOW_BITS = (
    0xFF  # of a scale's 24 bits, kept zero: then 127 * scale is exact, and rounding twice is rounding once
)


def stored(tensors: Mapping[str, Tensor], precision: str) -> dict[str, Tensor]:
    """Return the tensors as the file holds them: head.weight as_stored, with a scale for each row of int8."""
    held = dict(tensors)
    if precision == "float16":
        held[WEIGHT] = held[WEIGHT].half()
    if precision == "int8":
        weight = held[WEIGHT]  # (C, D)
        held[SCALE] = scales(weight)
        held[WEIGHT] = (weight / held[SCALE].unsqueeze(-1)).round().to(torch.int8)
    return held


def restored(held: Mapping[str, Tensor], precision: str) -> dict[str, Tensor]:
    """Return what the file's tensors stand for, all float32.

    Raises AdapterError for values that `stored` would not have written.
    """
    tensors = dict(held)
    if precision == "int8":
        scale = tensors.pop(SCALE)
        if not bool((scale > 0).all()):
            raise AdapterError(f"{SCALE} has values that are not positive; the file is damaged")
        tensors[WEIGHT] = held[WEIGHT].float() * scale.unsqueeze(-1)
    tensors[WEIGHT] = tensors[WEIGHT].float()
    again = stored(tensors, precision)
    if not all(torch.equal(again[name], held[name]) for name in (WEIGHT, SCALE) if name in held):
        raise AdapterError(f"{WEIGHT} is not as {precision} is written; the file is damaged")
    return tensors


def as_stored(weight: Tensor, precision: str) -> Tensor:
    """Return a head's weight as it would be after saving and loading: (C, D) -> (C, D) float32."""
    held = stored({WEIGHT: weight}, precision)
    weight = held[WEIGHT].float()
    return weight * held[SCALE].unsqueeze(-1) if SCALE in held else weight


def scales(weight: Tensor) -> Tensor:
    """Return the number that 1 of each row's int8 stands for: (C, D) -> (C,) float32."""
    largest = weight.abs().amax(-1)
    exact = (largest / LARGEST_INT8).contiguous().view(torch.int32)
    scale = ((exact + LOW_BITS) & ~LOW_BITS).view(torch.float32)
    return torch.where(largest < SMALLEST, torch.ones_like(scale), scale)


def file_shapes(
    shapes: Mapping[str, tuple[int, ...]], precision: str
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Return the shapes of the file's tensors, and the types of those that are not F32."""
    held = dict(shapes)
    if precision == "int8":
        held[SCALE] = shapes[WEIGHT][:-1]
    types = {"float16": "F16", "int8": "I8"}
    return held, {WEIGHT: types[precision]} if precision in types else {}
