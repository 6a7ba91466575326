"""Frozen parts of a layer, each one step of autograd with the way back written out.

Left to itself autograd adds up each residual's gradients in a pass of its own, and every operator costs a node; written out, the
sums ride on the products and the rows are rounded up once. The parts are as Linear.packs wants them: bfloat16, on a CPU.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from softcue.encoder.linear import ACTIVATIONS, FUSED, Linear, longer, product, product_plus
from softcue.protocol import keep


class Norm(NamedTuple):
    """What the way back through a half asks for."""

    total: Tensor  # (M, D) the norm's input
    mean: Tensor
    scale: Tensor
    kept: Tensor | None  # (M, D) dropout's factors


@dataclass(frozen=True)
class Half:
    """The end of one half of a post-norm layer: norm(residual + dropout(linear(x)))."""

    linear: Linear
    norm: nn.LayerNorm
    rate: float  # of dropout

    def forth(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Norm]:
        """(M, I), (M, D) -> (M, D)"""
        total, kept = self.linear(x), None
        if self.rate:
            kept = keep(total, self.rate)
            total = torch.addcmul(residual, total, kept, out=total)
        else:
            total += residual
        normed, mean, scale = torch.native_layer_norm(total, self.norm.normalized_shape, self.norm.weight, self.norm.bias, self.norm.eps)
        return normed, Norm(total, mean, scale, kept)

    def back(self, grad: Tensor, found: Norm) -> tuple[Tensor, Tensor]:
        """(M, D) -> (M, I), (M, D): the gradients of x and of the residual."""
        norm, shape = self.norm, self.norm.normalized_shape
        to_total, _, _ = torch.ops.aten.native_layer_norm_backward(
            grad, found.total, shape, found.mean, found.scale, norm.weight, norm.bias, [True, False, False]
        )
        to_linear = to_total if found.kept is None else to_total * found.kept
        return product(to_linear, self.linear.packed(self.linear.whole, True), None), to_total


def project(linear: Linear, x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, I) -> (N, O), (N, I): the map, and x again, whose gradient joins the map's without a pass of its own."""
    made: tuple[Tensor, Tensor] = _Project.apply(x, linear)
    return made


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, linear: Linear) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def, override]
        ctx.linear = linear
        return linear(x), x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor, beside: Tensor):  # type: ignore[no-untyped-def, override]
        return product_plus(grad, beside, ctx.linear.packed(ctx.linear.whole, True), None), None


def finish(mixed: Tensor, hidden: Tensor, first: Half, up: Linear, activation: str, second: Half) -> Tensor:
    """(N, D), (N, D) -> (N, D): what follows attention in a post-norm layer; the activation is one of FUSED."""
    made: Tensor = _Finish.apply(mixed, hidden, first, up, activation, second)
    return made


class _Finish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, mixed: Tensor, hidden: Tensor, first: Half, up: Linear, activation: str, second: Half) -> Tensor:  # type: ignore[no-untyped-def, override]
        middle, found = first.forth(longer(mixed), longer(hidden))
        wide = up(middle)
        closed, found_last = second.forth(ACTIVATIONS[activation](wide), middle)
        ctx.parts = first, up, activation, second
        ctx.save_for_backward(wide, *found, *found_last)
        return closed[: len(mixed)]

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def, override]
        (first, up, activation, second), (wide, *found) = ctx.parts, ctx.saved_tensors
        to_active, to_middle = second.back(longer(grad), Norm(*found[4:]))
        to_wide = activation_back(to_active, wide, activation)
        to_middle = product_plus(to_wide, to_middle, up.packed(up.whole, True), None)
        to_mixed, to_hidden = first.back(to_middle, Norm(*found[:4]))
        return to_mixed[: len(grad)], to_hidden[: len(grad)], None, None, None, None


def activation_back(grad: Tensor, x: Tensor, activation: str) -> Tensor:
    """The gradient of an activation of FUSED at x."""
    kind, algorithm = FUSED[activation]
    if kind == "relu":
        made: Tensor = torch.ops.aten.threshold_backward(grad, x, 0)
    else:
        made = torch.ops.aten.gelu_backward(grad, x, approximate=algorithm)
    return made
