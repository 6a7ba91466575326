"""norm(residual + dropout(x)) with its backward pass, in one pass by norm.cpp where that can do it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from softcue.kernels import Norm, address, call, has_kernels, kind_of, new_seed
from softcue.kernels.dropout import dropout_mask


class Found(NamedTuple):
    """What the backward pass asks for."""

    seed: int | None  # from which norm.cpp draws dropout's factors again; None: torch did it
    total: Tensor  # (M, D) the norm's input
    mean: Tensor
    scale: Tensor
    kept: Tensor | None  # (M, D) dropout's factors; None: there is none, or they are drawn again


def fits_norm(x: Tensor, residual: Tensor, norm: nn.LayerNorm, rate: float) -> bool:
    """Say whether norm.cpp can do it.

    It takes values of the norm's type, or bfloat16 beside float32, and a rate of dropout that leaves
    something.
    (M, D), (M, D) -> bool.
    """
    same = norm.bias is not None and norm.weight.dtype == residual.dtype
    return has_kernels(x) and same and kind_of(x.dtype, residual.dtype) is not None and rate < 1


def norm_forward(x: Tensor, residual: Tensor, norm: nn.LayerNorm, rate: float) -> tuple[Tensor, Found]:
    """Compute norm(residual + dropout(x)): (M, D), (M, D) -> (M, D); x may be written to."""
    if not fits_norm(x, residual, norm, rate):
        kept = dropout_mask(x, rate) if rate else None
        total = x.add_(residual) if kept is None else torch.addcmul(residual, x, kept, out=x)
        normed, mean, scale = torch.native_layer_norm(
            total, norm.normalized_shape, norm.weight, norm.bias, norm.eps
        )
        return normed, Found(None, total, mean, scale, kept)
    x, residual = x.contiguous(), residual.contiguous()
    normed, total = torch.empty_like(residual), torch.empty_like(residual)
    mean, scale = torch.empty(2, len(x), dtype=torch.float32).unbind()
    found = Found(new_seed() if rate else 0, total, mean, scale, None)
    told = _told(norm, rate, found)
    told.x, told.residual, told.normed = x.data_ptr(), residual.data_ptr(), normed.data_ptr()
    call("norm_forward", told, x.dtype, residual.dtype)
    return normed, found


def norm_backward(grad: Tensor, norm: nn.LayerNorm, rate: float, found: Found) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and of the residual: (M, D) -> (M, D), (M, D).

    x is of the residual's kind.
    """
    if found.seed is not None:
        to_x, to_residual, _, _ = _back(grad, norm, rate, found, grad.dtype, False)
        return to_x, to_residual
    to_residual, _, _ = torch.ops.aten.native_layer_norm_backward(
        grad,
        found.total,
        norm.normalized_shape,
        found.mean,
        found.scale,
        norm.weight,
        norm.bias,
        [True, False, False],
    )
    return to_residual if found.kept is None else to_residual * found.kept, to_residual


def _back(
    grad: Tensor, norm: nn.LayerNorm, rate: float, found: Found, dtype: torch.dtype, learns: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return the gradients of x, in dtype, of the residual, and of weight and bias where they learn."""
    grad = grad.contiguous()
    to_residual = torch.empty_like(grad)
    to_x = torch.empty_like(grad, dtype=dtype) if rate or dtype != grad.dtype else None
    to_weight, to_bias = (
        (torch.empty_like(norm.weight), torch.empty_like(norm.bias)) if learns else (None, None)
    )
    told = _told(norm, rate, found)
    told.grad, told.to_total = grad.data_ptr(), to_residual.data_ptr()
    told.to_x, told.to_weight, told.to_bias = map(address, (to_x, to_weight, to_bias))
    call("norm_backward", told, dtype, grad.dtype)
    return to_residual if to_x is None else to_x, to_residual, to_weight, to_bias


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
    """Compute norm(residual + dropout(x)), where it fits_norm: (M, D), (M, D) -> (M, D)."""
    made: Tensor = _AddNorm.apply(x, residual, norm.weight, norm.bias, norm, rate)
    return made


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[no-untyped-def, override]
        ctx, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, norm: nn.LayerNorm, rate: float
    ) -> Tensor:
        normed, (ctx.seed, total, mean, scale, _) = norm_forward(x, residual, norm, rate)
        ctx.norm, ctx.rate, ctx.dtype = norm, rate, x.dtype
        ctx.save_for_backward(total, mean, scale, weight)
        return normed

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def, override]
        total, mean, scale, _ = ctx.saved_tensors
        found = Found(ctx.seed, total, mean, scale, None)
        return (
            *_back(
                grad, ctx.norm, ctx.rate, found, ctx.dtype, ctx.needs_input_grad[2] or ctx.needs_input_grad[3]
            ),
            None,
            None,
        )
