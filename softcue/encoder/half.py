"""The half of a frozen layer that follows attention, as one step for autograd: its way back is written by hand."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from softcue.encoder.linear import ACTIVATIONS, Linear
from softcue.protocol import keep

aten = torch.ops.aten
WAY_BACK: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # activation -> (gradient of its output, its input) -> gradient of its input
    "gelu": lambda grad, x: aten.gelu_backward(grad, x),
    "gelu_new": lambda grad, x: aten.gelu_backward(grad, x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda grad, x: aten.gelu_backward(grad, x, approximate="tanh"),
    "relu": lambda grad, x: aten.threshold_backward(grad, x, 0),
}


class Maps(Protocol):
    """What a layer has for this half."""

    out: Linear
    norm1: nn.LayerNorm
    up: Linear
    down: Linear
    norm2: nn.LayerNorm


def takes(maps: Maps, mixed: Tensor, activation: str) -> bool:
    """Whether `frozen_half` can stand in: there is a way back, all numbers are frozen, and their products are laid out beforehand."""
    if not (torch.is_grad_enabled() and mixed.requires_grad and activation in WAY_BACK):
        return False
    frozen = not (maps.norm1.weight.requires_grad or maps.norm2.weight.requires_grad)
    return frozen and all(linear.packs(mixed) for linear in (maps.out, maps.up, maps.down))


def frozen_half(maps: Maps, hidden: Tensor, mixed: Tensor, activation: str, rates: tuple[float, float]) -> Tensor:
    """(M, D), (M, D) -> (M, D): norm(hidden + drop(out(mixed))), and the same of the feed-forward; rates: of the two dropouts."""
    made: Tensor = _Half.apply(hidden, mixed, maps, activation, rates)
    return made


class _Half(torch.autograd.Function):
    """One step where autograd would take ten: for batches of short texts what it does between products shows."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, mixed: Tensor, maps: Maps, activation: str, rates: tuple[float, float]) -> Tensor:
        ctx.maps, ctx.activation = maps, activation
        middle, *first = _close(hidden, maps.out(mixed), maps.norm1, rates[0])
        wide = maps.up(middle)
        end, *second = _close(middle, maps.down(ACTIVATIONS[activation](wide)), maps.norm2, rates[1])
        ctx.save_for_backward(wide, *first, *second)
        return end

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps, (wide, *saved) = ctx.maps, ctx.saved_tensors
        to_middle, to_down = _open(grad, maps.norm2, *saved[4:])
        to_wide = WAY_BACK[ctx.activation](maps.down.back(to_down), wide)
        to_hidden, to_out = _open(maps.up.back(to_wide, to_middle), maps.norm1, *saved[:4])
        return to_hidden, maps.out.back(to_out), None, None, None


def _close(residual: Tensor, y: Tensor, norm: nn.LayerNorm, rate: float) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """norm(residual + drop(y)), and what the way back needs: the sum, what was kept, the norm's means and inverse deviations."""
    kept = keep(y, rate) if rate else None
    total = residual + y if kept is None else torch.addcmul(residual, y, kept)
    normed, mean, inverse = aten.native_layer_norm(total, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return normed, total, kept, mean, inverse


def _open(grad: Tensor, norm: nn.LayerNorm, total: Tensor, kept: Tensor | None, mean: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of _close's residual and of its y."""
    shape, only_input = norm.normalized_shape, [True, False, False]
    to_total, _, _ = aten.native_layer_norm_backward(grad.contiguous(), total, shape, mean, inverse, norm.weight, norm.bias, only_input)
    return to_total, to_total if kept is None else to_total * kept
