"""GELU by gelu.cpp, which finds the slope for the backward pass in the forward pass."""

import torch
from torch import Tensor
from torch.nn import functional as F

from softcue.kernels import Gelu, address, call, has_kernels


def gelu(x: Tensor) -> Tensor:
    """Compute x P(X < x), as F.gelu does.

    (..) -> (..).
    """
    if not has_kernels(x):
        return F.gelu(x)
    if not torch.is_grad_enabled() or not x.requires_grad:
        return _run(x, None)
    made: Tensor = _Gelu.apply(x)
    return made


def gelu_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute GELU and its slope, for values that `has_kernels` allows.

    (..) -> (..), (..).
    """
    slope = torch.empty_like(x)
    return _run(x, slope), slope


def _run(x: Tensor, slope: Tensor | None) -> Tensor:
    x = x.contiguous()
    y = torch.empty_like(x)
    call("gelu_forward", Gelu(x.numel(), x.data_ptr(), y.data_ptr(), address(slope)), x.dtype)
    return y


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        y, slope = gelu_and_slope(x.contiguous())
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        (slope,) = ctx.saved_tensors
        return grad * slope
