"""y + scale x A B with thin A and B of each seat by thin.cpp, and its backward pass."""

from functools import lru_cache

import torch
from torch import Tensor

from softcue.batch import Runs
from softcue.kernels import Thin, address, call, dense, has_kernels, kind_of

BLOCK_ROWS = 64  # of a block, as in thin.cpp


def fits_thin(y: Tensor, x: Tensor, table: Tensor) -> bool:
    """Say whether thin.cpp can do it: values that it takes, and tables of the same type or in float32.

    (M, O), (M, I), (A, I, r) -> bool.
    """
    return (
        has_kernels(x)
        and x.dtype == y.dtype
        and kind_of(x.dtype, table.dtype) is not None
        and x.stride(-1) == y.stride(-1) == 1
    )


def plus_thin(y: Tensor, x: Tensor, shrink: Tensor, grow: Tensor, scale: Tensor, runs: Runs) -> Tensor:
    """Add a thin product: (M, O), (M, I), (A, I, r), (A, r, O), (A,) -> (M, O), where it fits_thin.

    It works in place where there is no backward pass.
    """
    shrink, grow = dense(shrink), dense(grow)
    if torch.is_grad_enabled():
        made: Tensor = _PlusThin.apply(y, x, shrink, grow, scale, runs)
        return made
    _run(y, x, shrink, grow, scale, runs, y, None)
    return y


def _run(
    y: Tensor,
    x: Tensor,
    shrink: Tensor,
    grow: Tensor,
    scale: Tensor,
    runs: Runs,
    made: Tensor,
    thin: Tensor | None,
) -> None:
    told = _told(x, shrink, grow, scale, runs, thin)
    told.y, told.y_row, told.made, told.made_row = y.data_ptr(), y.stride(0), made.data_ptr(), made.stride(0)
    call("thin_forward", told, x.dtype, shrink.dtype)


def _told(x: Tensor, shrink: Tensor, grow: Tensor, scale: Tensor, runs: Runs, thin: Tensor | None) -> Thin:
    run, block = _counted(runs)
    told = Thin(
        blocks=len(block),
        runs=len(run),
        inputs=shrink.shape[1],
        outputs=grow.shape[2],
        rank=shrink.shape[2],
        block=block.data_ptr(),
        run=run.data_ptr(),
        x=x.data_ptr(),
        x_row=x.stride(0),
        shrink=shrink.data_ptr(),
        grow=grow.data_ptr(),
        shrink_seat=shrink.stride(0),
        grow_seat=grow.stride(0),
        scale=scale.data_ptr(),
        thin=address(thin),
    )
    told.counted = run, block  # another thread may drive them out of the cache before the call
    return told


@lru_cache(maxsize=8)  # a forward asks for the same runs at every site of every layer
def _counted(runs: Runs) -> tuple[Tensor, Tensor]:
    """Return (G, 3) runs, and the same in blocks of at most BLOCK_ROWS rows."""
    blocks = [
        (seat, at, min(at + BLOCK_ROWS, end))
        for seat, first, end in runs
        for at in range(first, end, BLOCK_ROWS)
    ]
    return torch.tensor(runs), torch.tensor(blocks)


class _PlusThin(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y: Tensor, x: Tensor, shrink: Tensor, grow: Tensor, scale: Tensor, runs: Runs) -> Tensor:  # type: ignore[no-untyped-def, override]
        made = y.new_empty(y.shape)
        # room for whole vectors, whatever their length
        thin = torch.empty(len(x), shrink.shape[2] + 16, dtype=torch.float32)
        _run(y, x, shrink, grow, scale, runs, made, thin)
        ctx.runs = runs
        ctx.save_for_backward(x, shrink, grow, scale, thin)
        return made

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def, override]
        x, shrink, grow, scale, thin = ctx.saved_tensors
        grad = grad if grad.stride(-1) == 1 else grad.contiguous()
        to_thin, to_x = torch.empty_like(thin), torch.empty_like(x) if ctx.needs_input_grad[1] else None
        to_shrink, to_grow = torch.zeros(shrink.shape), torch.zeros(grow.shape)
        told = _told(x, shrink, grow, scale, ctx.runs, thin)
        told.grad, told.grad_row, told.to_thin = grad.data_ptr(), grad.stride(0), to_thin.data_ptr()
        told.to_x = address(to_x)
        told.to_shrink, told.to_grow = to_shrink.data_ptr(), to_grow.data_ptr()
        call("thin_backward", told, x.dtype, shrink.dtype)
        return grad, to_x, to_shrink.to(shrink.dtype), to_grow.to(grow.dtype), None, None
