"""Attention of ragged rows by attention.cpp, and its backward pass: nothing is padded, or kept but
one number for each row and head.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from softcue.attention.layout import Layout
from softcue.kernels import Attention, address, call, dense, new_seed
from softcue.protocol import Prefix


class Call(NamedTuple):
    """What does not change between forward and backward."""

    query_start: Tensor  # (B + 1,) int64: the first query of each example, and one past the last
    key_start: Tensor  # (B + 1,)
    scale: float
    rate: float  # of dropout
    seed: int
    present: Tensor | None  # (B,) int64: how much of its prefix each example has; None: all
    distance: Tensor | None  # as attend_ragged has it


def attend_ragged(
    # (B, H, K) of the one row of each example that is read; None: every row's, which stands in front of its
    # key
    query: Tensor | None,
    rows: Tensor,  # (N, 3, H, K) query, key and value of each row, or (N, 2, H, K) without the query
    layout: Layout,
    prefix: Prefix | None,
    scale: float,
    rate: float,  # of dropout of attention probabilities
    # (H|1, 2 T - 1) float32, frozen: what is added to logits by key's place less query's
    distance: Tensor | None = None,
) -> Tensor:  # (M, H * K)
    """Let every query look at its own example's prefix and rows."""
    starts, learns = layout.starts, torch.is_grad_enabled()  # autograd's own cost is half of a short text's
    query, rows = None if query is None else query.contiguous(), rows.contiguous()
    present = None if prefix is None or prefix.length is None else prefix.length.long().contiguous()
    if distance is not None:
        assert distance.shape[1] > 2 * (layout.batch.longest - 1), "the kernel would read beyond the table"
        distance = distance.contiguous()
    told = Call(
        starts if query is None else torch.arange(len(starts)),
        starts,
        scale,
        rate,
        new_seed() if rate else 0,
        present,
        distance,
    )
    key, value, ahead = None, None, None
    if prefix is not None:
        key, value = (dense(x.to(rows.dtype)) for x in prefix[:2])
        if prefix.rescore is not None:  # each row is to it an example of one row
            if learns:
                logits, query, rows = _Ahead.apply(query, rows, key, told)
            else:
                logits = _ahead(query, rows, key, told)
            owner = layout.batch.owner if query is None else torch.arange(len(query))
            ahead, key = (logits + prefix.rescore(logits.unsqueeze(2), owner).squeeze(2)).contiguous(), None
    mixed: Tensor = (
        _Attend.apply(query, rows, key, value, ahead, told)
        if learns
        else _mix(query, rows, key, value, ahead, told)[0]
    )
    return mixed


def _mix(
    query: Tensor | None,
    rows: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    ahead: Tensor | None,
    told: Call,
) -> tuple[Tensor, Tensor]:
    """Return (M, H * K), and the (M, H) from which the backward pass takes each row's probabilities."""
    many = rows if query is None else query
    mixed, total = (
        many.new_empty(len(many), rows.shape[-2:].numel()),
        many.new_empty(len(many), rows.shape[2], dtype=torch.float32),
    )
    call(
        "attention_forward", _told(query, rows, key, value, ahead, told, mixed=mixed, total=total), rows.dtype
    )
    return mixed, total


def _ahead(query: Tensor | None, rows: Tensor, key: Tensor, told: Call) -> Tensor:
    """Return logits of the queries towards their example's prefix: (M, H, P) float32."""
    ahead = torch.zeros(
        len(rows if query is None else query), rows.shape[2], key.shape[1], dtype=torch.float32
    )
    call("ahead_forward", _told(query, rows, key, None, None, told, to_ahead=ahead), rows.dtype)
    return ahead


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, rows, key, value, ahead, told):  # type: ignore[no-untyped-def, override]
        mixed, total = _mix(query, rows, key, value, ahead, told)
        ctx.told = told
        ctx.save_for_backward(query, rows, key, value, ahead, total)
        return mixed

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        query, rows, key, value, ahead, total = ctx.saved_tensors
        asked, grad = ctx.needs_input_grad, grad.contiguous()
        to_query = torch.empty_like(query) if query is not None and asked[0] else None
        to_rows = torch.empty_like(rows) if asked[1] else None
        to_key, to_value = (None if x is None else x.new_empty(x.shape) for x in (key, value))
        to_ahead = None if ahead is None else torch.zeros_like(ahead)
        filled = {
            "total": total,
            "grad": grad,
            "to_front_key": to_key,
            "to_front_value": to_value,
            "to_ahead": to_ahead,
        }
        made = _told(query, rows, key, value, ahead, ctx.told, **filled)
        _give(made, "to_", to_query, to_rows)
        call("attention_backward", made, rows.dtype)
        return to_query, to_rows, to_key, to_value, to_ahead, None


class _Ahead(torch.autograd.Function):
    """Logits of queries towards their prefix.

    It returns queries and rows again, so that gradients join without a pass of their own.
    """

    @staticmethod
    def forward(ctx, query, rows, key, told):  # type: ignore[no-untyped-def, override]
        ctx.told = told
        ctx.save_for_backward(query, rows, key)
        return (
            _ahead(query, rows, key, told),
            None if query is None else query.view_as(query),
            rows.view_as(rows),
        )

    @staticmethod
    def backward(ctx, grad, to_query, to_rows):  # type: ignore[no-untyped-def, override]
        query, rows, key = ctx.saved_tensors
        to_key = key.new_empty(key.shape)
        made = _told(query, rows, key, None, grad.contiguous(), ctx.told, to_front_key=to_key)
        _give(
            made,
            "to_",
            to_query if ctx.needs_input_grad[0] else None,
            to_rows if ctx.needs_input_grad[1] else None,
        )
        call("ahead_backward", made, rows.dtype)
        return to_query, to_rows, to_key, None


def _told(
    query: Tensor | None,
    rows: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    ahead: Tensor | None,
    told: Call,
    **filled: Tensor | None,
) -> Attention:
    """Return the kernel's arguments."""
    front = value if key is None else key
    key_steps, value_steps = ((0, 0) if x is None else x.stride()[:2] for x in (key, value))
    made = Attention(
        examples=len(told.key_start) - 1,
        heads=rows.shape[2],
        width=rows.shape[3],
        prefix=0 if front is None else front.shape[1],
        query_start=told.query_start.data_ptr(),
        key_start=told.key_start.data_ptr(),
        query_row=rows.stride(0) if query is None else query.stride(0),
        key_row=rows.stride(0),
        front_key_example=key_steps[0],
        front_key_token=key_steps[1],
        front_value_example=value_steps[0],
        front_value_token=value_steps[1],
        front_key=address(key),
        front_value=address(value),
        front_count=address(told.present),
        ahead=address(ahead),
        distance=None
        if told.distance is None
        else told.distance[0, told.distance.shape[1] // 2 :].data_ptr(),
        distance_head=0 if told.distance is None or len(told.distance) == 1 else told.distance.stride(0),
        scale=told.scale,
        rate=told.rate,
        seed=told.seed,
        **{name: address(x) for name, x in filled.items()},
    )
    _give(made, "", query, rows)
    return made


def _give(made: Attention, prefix: str, query: Tensor | None, rows: Tensor | None) -> None:
    """Return where query, key and value begin."""
    parts: dict[str, Any] = {}
    if rows is not None:
        step = rows.stride(1) * rows.itemsize
        names = ("query", "key", "value")[3 - rows.shape[1] :]
        parts = {name: rows.data_ptr() + i * step for i, name in enumerate(names)}
    if query is not None:
        parts["query"] = query.data_ptr()
    for name, begin in parts.items():
        setattr(made, prefix + name, begin)
