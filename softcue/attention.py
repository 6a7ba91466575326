"""Attention over packed rows: the only code that knows how rows see each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

from softcue.batch import Batch
from softcue.protocol import Prefix


@dataclass(frozen=True)
class Bucket:
    """b examples of about the same length t, as places in the packed rows."""

    example: Tensor  # (b,)
    row: Tensor  # (b, t) the example's rows; its last row again where it is shorter
    pad: Tensor | None  # (b, t) True where it is shorter; None where none is

    @property
    def size(self) -> int:
        """Places in the bucket, padding included."""
        return self.row.numel()


Bias = Callable[[Tensor, Tensor, Bucket], Tensor]  # query, key (b, H, t, K) -> what to add to text logits, (b|1, H|1, t, t)
Watch = Callable[[Tensor, Bucket], None]  # sees attention probabilities (b, H, t, P + t)


@dataclass(frozen=True)
class Layout:
    """How one batch is laid out for attention; built once per forward."""

    buckets: tuple[Bucket, ...]
    place: Tensor  # (N,) where each row stands among the places of all buckets, end to end
    row: Tensor  # (places,) the row at each place
    pad: Tensor | None  # (places, 1, 1) True at padding
    watch: Watch | None = None

    @staticmethod
    def of(batch: Batch, watch: Watch | None = None) -> "Layout":
        """Group the batch's examples into buckets of similar length."""
        lengths, starts = batch.lengths, [0, *accumulate(batch.lengths)]
        buckets, place, at = [], torch.empty(starts[-1], dtype=torch.long), 0
        for members in _similar(lengths):
            longest = lengths[members[0]]
            count = torch.tensor([lengths[i] for i in members])
            column = torch.arange(longest)
            row = torch.tensor([starts[i] for i in members])[:, None] + torch.minimum(column, count[:, None] - 1)
            pad = column >= count[:, None]
            place[row[~pad]] = (torch.arange(row.numel()) + at).view(row.shape)[~pad]
            buckets.append((torch.tensor(members), row, pad if bool(pad.any()) else None))
            at += row.numel()
        padded = any(pad is not None for _, _, pad in buckets)
        flat = torch.cat([(torch.zeros_like(r, dtype=torch.bool) if p is None else p).flatten() for _, r, p in buckets]) if padded else None
        device = batch.device
        return Layout(
            buckets=tuple(Bucket(e.to(device), r.to(device), None if p is None else p.to(device)) for e, r, p in buckets),
            place=place.to(device),
            row=torch.cat([row.flatten() for _, row, _ in buckets]).to(device),
            pad=None if flat is None else flat.view(-1, 1).to(device),
            watch=watch,
        )


def _similar(lengths: Sequence[int]) -> list[list[int]]:
    """Example numbers in groups of similar length, longest first; padding stays below a quarter, or 8 rows an example."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[groups[-1][0]] if groups else 0
        if groups and (lengths[i] >= 0.75 * longest or longest - lengths[i] <= 8):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


class _Spread(torch.autograd.Function):
    """Rows to places; the way back is a gather too, since every row stands at one place that counts."""

    @staticmethod
    def forward(ctx, rows: Tensor, row: Tensor, place: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(place)
        return rows.index_select(0, row)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        (place,) = ctx.saved_tensors
        return grad.index_select(0, place), None, None


class _Collect(torch.autograd.Function):
    """Places to rows; on the way back padding gets zeros."""

    @staticmethod
    def forward(ctx, places: Tensor, row: Tensor, place: Tensor, pad: Tensor | None) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(row, pad)
        return places.index_select(0, place)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        row, pad = ctx.saved_tensors
        grad = grad.index_select(0, row)
        return grad if pad is None else grad.masked_fill_(pad, 0.0), None, None, None


def attend(
    qkv: Tensor,  # (N, 3, H, K) query, key and value of each row
    layout: Layout,
    prefix: Prefix | None = None,
    bias: Bias | None = None,
    scale: float | None = None,  # default 1 / sqrt(K)
    dropout: float = 0.0,  # of attention probabilities
    kernel: str = "products",
) -> Tensor:  # (N, H * K)
    """Let every row look at its own example's prefix and rows."""
    width = qkv.shape[-2] * qkv.shape[-1]
    scale = qkv.shape[-1] ** -0.5 if scale is None else scale
    places = _Spread.apply(qkv.flatten(1), layout.row, layout.place).view(-1, *qkv.shape[1:])
    run = KERNELS["products" if layout.watch else kernel]
    outputs, at = [], 0
    for bucket in layout.buckets:
        inside = places[at : at + bucket.size].view(*bucket.row.shape, *qkv.shape[1:])
        query, key, value = inside.permute(2, 0, 3, 1, 4).unbind(0)  # (b, H, t, K) each
        mask = _mask(query, key, bucket, prefix, bias, scale)
        if prefix is not None:
            key = torch.cat([_prefix_rows(prefix.key, bucket, len(layout.buckets), key.dtype), key], dim=2)
            value = torch.cat([_prefix_rows(prefix.value, bucket, len(layout.buckets), key.dtype), value], dim=2)
        mixed = run(query, key, value, mask, scale, dropout, layout.watch, bucket)
        outputs.append(mixed.transpose(1, 2).reshape(bucket.size, width))
        at += bucket.size
    return _Collect.apply(outputs[0] if len(outputs) == 1 else torch.cat(outputs), layout.row, layout.place, layout.pad)


def _prefix_rows(x: Tensor, bucket: Bucket, buckets: int, dtype: torch.dtype) -> Tensor:
    """(B, P, H, K) -> (b, H, P, K)"""
    chosen = x if buckets == 1 and len(bucket.example) == 1 else x[bucket.example]
    return chosen.to(dtype).transpose(1, 2)


def _mask(query: Tensor, key: Tensor, bucket: Bucket, prefix: Prefix | None, bias: Bias | None, scale: float) -> Tensor | None:
    """What to add to the logits, (b|1, H|1, t|1, P + t) float32, or None."""
    text = None if bias is None else bias(query, key, bucket).float()
    if bucket.pad is not None:
        hidden = torch.zeros_like(bucket.pad, dtype=torch.float32).masked_fill(bucket.pad, -torch.inf)[:, None, None]
        text = hidden if text is None else text + hidden
    front = None if prefix is None else _front(query, bucket, prefix, scale)
    if prefix is None or (text is None and front is None):
        return text
    t = query.shape[-2]
    front = torch.zeros(1, 1, 1, prefix.key.shape[1], device=query.device) if front is None else front
    text = torch.zeros(1, 1, 1, t, device=query.device) if text is None else text
    shape = torch.broadcast_shapes(front.shape[:3], text.shape[:3])
    return torch.cat([front.expand(*shape, -1), text.expand(*shape, -1)], dim=-1)


def _front(query: Tensor, bucket: Bucket, prefix: Prefix, scale: float) -> Tensor | None:
    """What to add to the prefix columns, (b, H|1, t|1, P), or None."""
    front = None
    if prefix.rescore is not None:
        key = prefix.key[bucket.example].to(query.dtype).transpose(1, 2)
        front = prefix.rescore(query @ key.mT * scale, bucket.example)
    if prefix.length is not None:
        column = torch.arange(prefix.key.shape[1], device=query.device)
        absent = column >= prefix.length[bucket.example][:, None]
        hidden = torch.zeros(absent.shape, device=query.device).masked_fill(absent, -torch.inf)[:, None, None]
        front = hidden if front is None else front + hidden
    return front


def _products(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, dropout: float, watch: Watch | None, bucket: Bucket
) -> Tensor:
    """Explicit matrix products: on CPU in bfloat16 their backward is several times faster than the fused kernel's."""
    logits = query * scale @ key.mT
    logits = logits if mask is None else logits + mask
    chance = logits.softmax(-1, dtype=torch.float32)
    if watch is not None:
        watch(chance, bucket)
    return F.dropout(chance, dropout, dropout > 0).to(value.dtype) @ value


def _fused(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, dropout: float, watch: Watch | None, bucket: Bucket
) -> Tensor:
    """torch's scaled_dot_product_attention."""
    mask = None if mask is None else mask.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)


KERNELS = {"products": _products, "fused": _fused}
