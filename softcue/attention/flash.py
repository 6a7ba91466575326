"""Attention of rows as they lie on CUDA: torch's flash attention, with each example's prefix in
front of its own keys and values.
"""

from functools import cache

import torch
from torch import Tensor

from softcue.attention.buckets import Reorder
from softcue.attention.layout import Layout
from softcue.protocol import Prefix

WIDEST_HEAD = 256  # width of a head, of which the kernel wants a multiple of STEP
STEP = 8


def takes_flash(rows: Tensor, prefix: Prefix | None) -> bool:
    """Say whether flash attention takes the rows.

    It wants 16 bits, a GPU that has the kernel, and logits towards the prefix that are products alone.
    (N, 3, H, K) -> bool.
    """
    if rows.device.type != "cuda" or rows.dtype not in (torch.bfloat16, torch.float16):
        return False
    return (
        (prefix is None or prefix.plain)
        and rows.shape[-1] <= WIDEST_HEAD
        and rows.shape[-1] % STEP == 0
        and _is_there(rows.device)
    )


@cache
def _is_there(device: torch.device) -> bool:
    return torch.backends.cuda.is_flash_attention_available() and torch.cuda.get_device_capability(
        device
    ) >= (8, 0)


def attend_flash(
    # (B, H, K) of the one row of each example that is read; None: every row's, which stands in front of its
    # key
    query: Tensor | None,
    rows: Tensor,  # (N, 3, H, K) query, key and value of each row, or (N, 2, H, K) without the query
    layout: Layout,
    prefix: Prefix | None,
    scale: float,
    rate: float,  # of dropout of attention probabilities
) -> Tensor:  # (M, H * K)
    """Let every query look at its own example's prefix and rows."""
    batch, count = layout.batch, 0 if prefix is None else prefix.key.shape[1]
    key_starts = layout.starts_int32 if prefix is None else layout.in_front(count).starts
    if query is None:
        starts, longest = layout.starts_int32, batch.longest
    else:
        starts, longest = torch.arange(len(query) + 1, dtype=torch.int32, device=rows.device), 1
    if prefix is not None:
        own, rows = rows.split([rows.shape[1] - 2, 2], dim=1)
        query = own.squeeze(1) if query is None else query
        rows = _fronted(rows, layout, prefix)
    query, key, value = rows.unbind(1) if query is None else (query, *rows.unbind(1))
    return varlen(query, key, value, starts, key_starts, longest, batch.longest + count, scale, rate).flatten(
        1
    )


def _fronted(rows: Tensor, layout: Layout, prefix: Prefix) -> Tensor:
    """Put each example's prefix in front of its rows: (N, 2, H, K) -> (B * P + N, 2, H, K)."""
    front = torch.stack(prefix[:2], dim=2).flatten(0, 1).to(rows.dtype)
    keys = layout.in_front(prefix.key.shape[1])
    joined: Tensor = Reorder.apply(torch.cat([front, rows]), keys.there, keys.back)
    return joined


def varlen(
    query: Tensor,  # (M, H, K)
    key: Tensor,  # (M, H, K)
    value: Tensor,  # (M, H, K)
    starts: Tensor,  # (B + 1,) int32: the first query of each example, and one past the last
    key_starts: Tensor,  # (B + 1,) int32: the same of keys
    longest: int,  # queries of an example
    key_longest: int,
    scale: float,
    rate: float,
) -> Tensor:  # (M, H, K)
    """Call torch's kernel, which torch.nn.attention.varlen has too, but without dropout."""
    made: tuple[Tensor, ...] = torch.ops.aten._flash_attention_forward(
        query, key, value, starts, key_starts, longest, key_longest, rate, False, False, scale=scale
    )
    return made[0]
