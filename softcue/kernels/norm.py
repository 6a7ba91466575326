"""norm(residual + dropout(x)) of a frozen norm with its way back, in one pass by norm.cpp where that can do it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from softcue.kernels import KINDS, Norm, call, new_seed, takes
from softcue.protocol import keep


class Found(NamedTuple):
    """What the way back asks for."""

    seed: int | None  # from which norm.cpp draws dropout's factors again; None: torch did it
    total: Tensor  # (M, D) the norm's input
    mean: Tensor
    scale: Tensor
    kept: Tensor | None  # (M, D) dropout's factors; None: there is none, or they are drawn again


def fits(x: Tensor, norm: nn.LayerNorm, rate: float) -> bool:
    """Whether norm.cpp can do it: numbers that it takes, a frozen norm of the same kind, and something left by dropout."""
    weight, bias = norm.weight, norm.bias
    frozen = not weight.requires_grad and bias is not None and not bias.requires_grad
    return takes(x) and frozen and weight.dtype == x.dtype and rate < 1


def forth(x: Tensor, residual: Tensor, norm: nn.LayerNorm, rate: float) -> tuple[Tensor, Found]:
    """(M, D), (M, D) -> (M, D); x may be written to."""
    if not fits(x, norm, rate):
        kept = keep(x, rate) if rate else None
        total = x.add_(residual) if kept is None else torch.addcmul(residual, x, kept, out=x)
        normed, mean, scale = torch.native_layer_norm(total, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return normed, Found(None, total, mean, scale, kept)
    x, residual = x.contiguous(), residual.contiguous()
    normed, total, (mean, scale) = torch.empty_like(x), torch.empty_like(x), torch.empty(2, len(x)).unbind()
    found = Found(new_seed() if rate else 0, total, mean, scale, None)
    told = _told(norm, rate, found)
    told.x, told.residual, told.normed = x.data_ptr(), residual.data_ptr(), normed.data_ptr()
    call("norm_forward", told, KINDS[x.dtype])
    return normed, found


def back(grad: Tensor, norm: nn.LayerNorm, rate: float, found: Found) -> tuple[Tensor, Tensor]:
    """(M, D) -> (M, D), (M, D): the gradients of x and of the residual."""
    if found.seed is None:
        to_residual, _, _ = torch.ops.aten.native_layer_norm_backward(
            grad, found.total, norm.normalized_shape, found.mean, found.scale, norm.weight, norm.bias, [True, False, False]
        )
        return to_residual if found.kept is None else to_residual * found.kept, to_residual
    grad = grad.contiguous()
    to_residual = torch.empty_like(grad)
    to_x = torch.empty_like(grad) if rate else to_residual
    told = _told(norm, rate, found)
    told.grad, told.to_x, told.to_total = grad.data_ptr(), to_x.data_ptr(), to_residual.data_ptr()
    call("norm_backward", told, KINDS[grad.dtype])
    return to_x, to_residual


def _told(norm: nn.LayerNorm, rate: float, found: Found) -> Norm:
    rows, width = found.total.shape
    return Norm(
        rows=rows,
        width=width,
        weight=norm.weight.data_ptr(),
        bias=norm.bias.data_ptr(),
        epsilon=norm.eps,
        rate=rate,
        seed=found.seed,
        total=found.total.data_ptr(),
        mean=found.mean.data_ptr(),
        scale=found.scale.data_ptr(),
    )


def add_norm(x: Tensor, residual: Tensor, norm: nn.LayerNorm, rate: float) -> Tensor:
    """(M, D), (M, D) -> (M, D): norm(residual + dropout(x)), where it `fits`."""
    made: Tensor = _AddNorm.apply(x, residual, norm, rate)
    return made


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, residual: Tensor, norm: nn.LayerNorm, rate: float) -> Tensor:  # type: ignore[no-untyped-def, override]
        normed, (ctx.seed, total, mean, scale, _) = forth(x, residual, norm, rate)
        ctx.norm, ctx.rate = norm, rate
        ctx.save_for_backward(total, mean, scale)
        return normed

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def, override]
        total, mean, scale = ctx.saved_tensors
        return *back(grad, ctx.norm, ctx.rate, Found(ctx.seed, total, mean, scale, None)), None, None
