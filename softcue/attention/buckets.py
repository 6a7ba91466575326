"""Rows to the places that they have in attention's buckets, and back: gathers both ways."""

import torch
from torch import Tensor

from softcue.attention.layout import Layout


class ToBuckets(torch.autograd.Function):
    """Rows to each bucket's queries, keys and values.

    The backward pass gathers too, since every row stands at one place that counts.
    """

    @staticmethod
    def forward(ctx, rows: Tensor, layout: Layout) -> tuple[Tensor, ...]:  # type: ignore[no-untyped-def, override]
        ctx.layout, ctx.shape = layout, rows.shape[1:]
        parts: list[Tensor] = []
        for bucket, inside in zip(layout.buckets, layout.padded(rows.flatten(1)), strict=True):
            parts.extend(
                inside.view(*bucket.row.shape, *rows.shape[1:]).permute(2, 0, 3, 1, 4).contiguous().unbind(0)
            )
        return tuple(parts)

    @staticmethod
    def backward(ctx, *grads: Tensor):  # type: ignore[no-untyped-def, override]
        layout, (count, heads, width) = ctx.layout, ctx.shape

        def write(number: int, places: Tensor) -> None:
            inside = places.view(*layout.buckets[number].row.shape, count, heads, width)
            for i in range(count):
                inside[:, :, i].copy_(grads[number * count + i].transpose(1, 2))

        return layout.collect(grads[0], count * heads * width, write).view(-1, count, heads, width), None


class Reorder(torch.autograd.Function):
    """x[there], of which `back` is the inverse: a gather both ways, where torch would add into zeros."""

    @staticmethod
    def forward(ctx, x: Tensor, there: Tensor, back: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        ctx.save_for_backward(back)
        return x.index_select(0, there)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def, override]
        return grad.index_select(0, *ctx.saved_tensors), None, None


def to_buckets(x: Tensor, layout: Layout) -> Tensor:
    """Bring examples from the batch's order to the buckets': (B, ..) -> (B, ..)."""
    if layout.places.example is None:
        return x
    moved: Tensor = Reorder.apply(x, layout.places.example, layout.places.home)
    return moved


def to_batch(x: Tensor, layout: Layout) -> Tensor:
    """Bring examples from the buckets' order to the batch's: (B, ..) -> (B, ..)."""
    if layout.places.example is None:
        return x
    moved: Tensor = Reorder.apply(x, layout.places.home, layout.places.example)
    return moved


class Collect(torch.autograd.Function):
    """Each bucket's (b, H, t, K) to rows (N, H * K); in the backward pass padding gets zeros."""

    @staticmethod
    def forward(ctx, layout: Layout, *mixed: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        ctx.layout, (_, ctx.heads, _, width) = layout, mixed[0].shape

        def write(number: int, places: Tensor) -> None:
            places.view(*layout.buckets[number].row.shape, ctx.heads, width).copy_(
                mixed[number].transpose(1, 2)
            )

        return layout.collect(mixed[0], ctx.heads * width, write)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def, override]
        inside = zip(ctx.layout.buckets, ctx.layout.padded(grad, zeros=True), strict=True)
        return None, *(
            own.view(*b.row.shape, ctx.heads, -1).transpose(1, 2).contiguous() for b, own in inside
        )
