"""Products of rows with a frozen weight in float32, and what goes before and after them, by matmul.cpp.

A row gets the same bits whatever rows are beside it, and on any number of threads.
"""

import torch
from torch import Tensor

from softcue.kernels import Matmul, address, call, has_kernels

WIDEST_BLOCK = 32  # columns that a build makes together, at most


def fits_matmul(x: Tensor, weight: Tensor) -> bool:
    """Say whether there is a kernel for their product.

    (N, I), (O, I) -> bool.
    """
    return (
        x.dtype == weight.dtype == torch.float32
        and has_kernels(x)
        and x.dim() == 2
        and x.shape[0] > 0
        and weight.stride(1) == 1
    )


def lay_out(weight: Tensor) -> Tensor:
    """Lay out a weight as the kernel reads it, for products of few rows: (O, I) -> (..)."""
    columns, depth = weight.shape
    laid = weight.new_zeros(-(-columns // WIDEST_BLOCK) * WIDEST_BLOCK * depth)
    told = Matmul(
        depth=depth, columns=columns, weight=weight.data_ptr(), weight_row=weight.stride(0), y=laid.data_ptr()
    )
    call("matmul_lay", told, weight.dtype)
    return laid


def matmul(
    x: Tensor, weight: Tensor, bias: Tensor | None, beside: Tensor | None = None, laid: Tensor | None = None
) -> Tensor:
    """Compute F.linear and a sum: (N, I), (O, I), (O,), (N, O) -> (N, O).

    laid: what `lay_out` made of the weight.
    """
    return _run(x, weight, weight.shape[0], laid=laid, bias=bias, beside=beside)


def matmul_back(
    grad: Tensor, weight: Tensor, beside: Tensor | None = None, factor: Tensor | None = None
) -> Tensor:
    """Return the gradient of the input: (N, O), (O, I), (N, I), (N, I) -> (N, I).

    Another gradient may be added, and all multiplied by a factor.
    """
    return _run(grad, weight, weight.shape[1], back=True, beside=beside, factor=factor)


def matmul_gelu(
    x: Tensor, weight: Tensor, bias: Tensor | None, slope: Tensor | None = None, laid: Tensor | None = None
) -> Tensor:
    """Compute GELU of F.linear: (N, I), (O, I), (O,) -> (N, O).

    It writes the slope where there is a place for it. laid: as for `matmul`.
    """
    return _run(x, weight, weight.shape[0], laid=laid, bias=bias, active=True, slope=slope)


def _run(
    x: Tensor,
    weight: Tensor,
    columns: int,
    laid: Tensor | None = None,
    back: bool = False,
    bias: Tensor | None = None,
    beside: Tensor | None = None,
    factor: Tensor | None = None,
    active: bool = False,
    slope: Tensor | None = None,
) -> Tensor:
    x, beside, factor = (
        _flat(x),
        None if beside is None else _flat(beside),
        None if factor is None else factor.contiguous(),
    )
    rows, depth = x.shape
    y = x.new_empty(rows, columns)
    told = Matmul(
        *(rows, depth, columns, x.data_ptr(), x.stride(0)),
        *(
            (weight if laid is None else laid).data_ptr(),
            weight.stride(0),
            back,
            laid is not None,
            address(bias),
        ),
        *(
            address(beside),
            0 if beside is None else beside.stride(0),
            address(factor),
            active,
            address(slope),
            y.data_ptr(),
        ),
    )
    call("matmul", told, x.dtype)
    return y


def _flat(x: Tensor) -> Tensor:
    return x if x.stride(1) == 1 else x.contiguous()
