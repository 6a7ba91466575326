"""Frozen parts of a layer, each one step of autograd with the backward pass written out.

Left to itself autograd adds up each residual's gradients in a pass of its own, and every operator costs a
node; written out, the sums ride on the products and the rows are rounded up once. The parts are as
Linear.frees wants them, on a CPU.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from softcue.encoder.linear import ACTIVATIONS, FUSED, Linear, longer
from softcue.kernels import has_kernels
from softcue.kernels.norm import Found, norm_backward, norm_forward


@dataclass(frozen=True)
class Half:
    """The end of one half of a post-norm layer: norm(residual + dropout(linear(x)))."""

    linear: Linear
    norm: nn.LayerNorm
    rate: float  # of dropout

    def forth(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Found]:
        """Compute the half's output and what its backward pass needs: (M, I), (M, D) -> (M, D)."""
        return norm_forward(self.linear(x), residual, self.norm, self.rate)

    def back(self, grad: Tensor, found: Found, factor: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the gradients of x, times a factor, and of the residual: (M, D) -> (M, I), (M, D)."""
        to_linear, to_total = norm_backward(grad, self.norm, self.rate, found)
        return self.linear.back(to_linear, factor=factor), to_total


def project(linear: Linear, x: Tensor) -> tuple[Tensor, Tensor]:
    """Apply the map and return x again: (N, I) -> (N, O), (N, I).

    The gradient of that x joins the map's without a pass of its own.
    """
    made: tuple[Tensor, Tensor] = _Project.apply(x, linear)
    return made


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, linear: Linear) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def, override]
        ctx.linear = linear
        return linear(x), x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor, beside: Tensor):  # type: ignore[no-untyped-def, override]
        return ctx.linear.back(grad, beside), None


def frozen_rest(
    mixed: Tensor, hidden: Tensor, first: Half, up: Linear, activation: str, second: Half
) -> Tensor:
    """Compute what follows attention in a post-norm layer: (N, D), (N, D) -> (N, D).

    The activation is one of FUSED.
    """
    made: Tensor = _Finish.apply(mixed, hidden, first, up, activation, second)
    return made


class _Finish(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[no-untyped-def, override]
        ctx, mixed: Tensor, hidden: Tensor, first: Half, up: Linear, activation: str, second: Half
    ) -> Tensor:
        middle, found = first.forth(rounded(mixed), rounded(hidden))
        quick = activation == "gelu" and has_kernels(middle)
        if quick:
            active, kept = up.with_slope(middle)
        else:
            kept = up(middle)
            active = ACTIVATIONS[activation](kept)
        closed, found_last = second.forth(active, middle)
        ctx.parts = first, up, None if quick else activation, second
        ctx.seeds = found.seed, found_last.seed
        ctx.save_for_backward(kept, *found[1:], *found_last[1:])
        return closed[: len(mixed)]

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def, override]
        (first, up, activation, second), (kept, *found) = ctx.parts, ctx.saved_tensors
        slope = kept if activation is None else None
        to_wide, to_middle = second.back(rounded(grad), Found(ctx.seeds[1], *found[4:]), slope)
        to_wide = to_wide if activation is None else activation_back(to_wide, kept, activation)
        to_middle = up.back(to_wide, to_middle)
        to_mixed, to_hidden = first.back(to_middle, Found(ctx.seeds[0], *found[:4]))
        return to_mixed[: len(grad)], to_hidden[: len(grad)], None, None, None, None


def rounded(x: Tensor) -> Tensor:
    """Round rows up as `longer` does, where products are laid out; float32 does not need it.

    (N, W) -> (M, W).
    """
    return longer(x) if x.dtype == torch.bfloat16 else x


def activation_back(grad: Tensor, x: Tensor, activation: str) -> Tensor:
    """Return the gradient of an activation of FUSED at x.

    (M, F), (M, F) -> (M, F).
    """
    kind, algorithm = FUSED[activation]
    if kind == "relu":
        made: Tensor = torch.ops.aten.threshold_backward(grad, x, 0)
    else:
        made = torch.ops.aten.gelu_backward(grad, x, approximate=algorithm)
    return made
