"""Attention over packed rows: the only code that knows how rows see each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from softcue.attention import flash
from softcue.attention.buckets import Collect, ToBuckets, to_batch, to_buckets
from softcue.attention.distance import ByDistance
from softcue.attention.layout import AttentionObserver, Bucket, Layout
from softcue.attention.products import VECTOR, Products
from softcue.attention.ragged import attend_ragged
from softcue.kernels import has_kernels
from softcue.protocol import Prefix

SHORT = 32  # rows of an example alone up to which torch's fused kernel is the quicker one, forward only

KERNELS = "ragged", "products", "fused"

# query, key (b, H, t, K) -> what to add to text logits, (b|1, H|1, t, t)
Bias = Callable[[Tensor, Tensor, Bucket], Tensor]
Front = tuple[Tensor, Tensor] | None  # keys and values of a bucket's prefixes, (b, H, P, K) each


def attend(
    qkv: Tensor,  # (N, 3, H, K) query, key and value of each row
    layout: Layout,
    prefix: Prefix | None = None,
    bias: Bias | None = None,
    scale: float | None = None,  # default 1 / sqrt(K)
    drop: float = 0.0,  # of attention probabilities
    kernel: str = "products",
) -> Tensor:  # (N, H * K)
    """Let every row look at its own example's prefix and rows."""
    scale = qkv.shape[-1] ** -0.5 if scale is None else scale
    if kernel == "ragged":
        made = _as_they_lie(None, qkv, layout, prefix, bias, scale, drop)
        if made is not None:
            return made
        kernel = _instead(qkv)
    fronts = _fronts(prefix, layout, qkv.dtype)
    if layout.plain and not torch.is_grad_enabled():
        sight = Sight(layout.buckets[0], prefix, bias, scale, drop, layout.watch)
        query, key, value = _plainly(qkv, layout)
        seen = sight.look(query, key, value, fronts[0], "fused" if len(qkv) <= SHORT else kernel)
        return seen.transpose(1, 2).reshape(len(qkv), -1)
    padded, mixed = ToBuckets.apply(qkv, layout), []
    for i, bucket in enumerate(layout.buckets):
        query, key, value = padded[3 * i : 3 * i + 3]
        mixed.append(
            Sight(bucket, prefix, bias, scale, drop, layout.watch).look(query, key, value, fronts[i], kernel)
        )
    rows: Tensor = Collect.apply(layout, *mixed)
    return rows


def attend_once(
    query: Tensor,  # (B, H, K) of the one row of each example that is read
    kv: Tensor,  # (N, 2, H, K) key and value of each row
    layout: Layout,
    prefix: Prefix | None = None,
    scale: float | None = None,
    drop: float = 0.0,
    kernel: str = "products",
) -> Tensor:  # (B, H * K)
    """Let one row of each example look at the example's prefix and rows."""
    scale = kv.shape[-1] ** -0.5 if scale is None else scale
    if kernel == "ragged":
        made = _as_they_lie(query, kv, layout, prefix, None, scale, drop)
        if made is not None:
            return made
        kernel = _instead(kv)
    fronts = _fronts(prefix, layout, kv.dtype)
    if layout.plain and not torch.is_grad_enabled():
        sight = Sight(layout.buckets[0], prefix, None, scale, drop, None)
        key, value = _plainly(kv, layout)
        return sight.look(
            query.unsqueeze(2), key, value, fronts[0], "fused" if len(kv) <= SHORT else kernel
        ).flatten(1)
    padded, mixed = ToBuckets.apply(kv, layout), []
    queries = to_buckets(query, layout).unsqueeze(2).split([len(bucket.example) for bucket in layout.buckets])
    for i, bucket in enumerate(layout.buckets):
        key, value = padded[2 * i : 2 * i + 2]
        mixed.append(
            Sight(bucket, prefix, None, scale, drop, None).look(queries[i], key, value, fronts[i], kernel)
        )
    return to_batch(torch.cat(mixed).flatten(1), layout)


def _as_they_lie(
    query: Tensor | None,
    rows: Tensor,
    layout: Layout,
    prefix: Prefix | None,
    bias: Bias | None,
    scale: float,
    drop: float,
) -> Tensor | None:
    """Attend by a kernel that takes rows as they lie, or return None where none can.

    They add distances at most, do not measure attention, nor drop everything.
    """
    distance = bias.table if isinstance(bias, ByDistance) and not bias.table.requires_grad else None
    if (bias is not None and distance is None) or layout.watch is not None or drop >= 1:
        return None
    if has_kernels(rows):
        return attend_ragged(query, rows, layout, prefix, scale, drop, distance)
    if bias is None and flash.takes_flash(rows, prefix):
        return flash.attend_flash(query, rows, layout, prefix, scale, drop)
    return None


def _instead(rows: Tensor) -> str:
    """Return the kernel that is quick where none takes rows as they lie."""
    return "products" if rows.device.type == "cpu" else "fused"


def _plainly(rows: Tensor, layout: Layout) -> tuple[Tensor, ...]:
    """Return what ToBuckets gives where the layout is plain, as views: (b, H, t, K) each."""
    return rows.view(*layout.buckets[0].row.shape, *rows.shape[1:]).permute(2, 0, 3, 1, 4).unbind(0)


@dataclass(frozen=True)
class Sight:
    """What the queries of one bucket see, and how."""

    bucket: Bucket
    prefix: Prefix | None
    bias: Bias | None
    scale: float
    dropout: float
    watch: AttentionObserver | None

    def look(self, query: Tensor, key: Tensor, value: Tensor, front: Front, kernel: str) -> Tensor:
        """Attend within one bucket.

        (b, H, t, K), (b, H, t, K), (b, H, t, K) -> (b, H, t, K).
        """
        if kernel != "fused" and not self.dropout and not torch.is_grad_enabled():
            return self.glance(query, key, value, front)
        if kernel != "fused" or self.watch is not None:
            return self.mix(query, key, value, front)
        mask = self.mask(query, key, None if front is None else front[0])
        if front is not None:
            key, value = torch.cat([front[0], key], dim=2), torch.cat([front[1], value], dim=2)
        mask = None if mask is None else mask.to(query.dtype)
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=self.dropout, scale=self.scale
        )

    def mix(self, query: Tensor, key: Tensor, value: Tensor, front: Front) -> Tensor:
        """Compute what `look` gives as explicit products.

        On CPU in bfloat16 their backward pass is several times faster than the fused kernel's.
        (b, H, t, K), (b, H, t, K), (b, H, t, K) -> (b, H, t, K).
        """
        mask, ahead = self.text_mask(query, key), None
        if front is not None:
            value = torch.cat([front[1], value], dim=2)
            if self.changes_front:
                ahead = query @ (front[0] * self.scale).mT
                added = self.front_mask(ahead)
                assert added is not None
                ahead = ahead + added
            else:
                key, mask = (
                    torch.cat([front[0], key], dim=2),
                    None if mask is None else F.pad(mask, (front[0].shape[2], 0)),
                )
        mixed: Tensor = Products.apply(query, key, value, mask, ahead, self)
        return mixed

    def glance(self, query: Tensor, key: Tensor, value: Tensor, front: Front) -> Tensor:
        """Compute what `look` gives where no backward pass is needed; logits are changed in place.

        (b, H, t, K), (b, H, t, K), (b, H, t, K) -> (b, H, t, K).
        """
        text = self.text_mask(query, key)
        if front is not None:
            key, value = torch.cat([front[0], key], dim=2), torch.cat([front[1], value], dim=2)
        logits, count = (query * self.scale) @ key.mT, 0 if front is None else front[0].shape[2]
        to_front = self.front_mask(logits[..., :count]) if count else None
        if to_front is not None or text is not None:
            logits = logits.float()
        if to_front is not None:
            logits[..., :count] += to_front
        if text is not None:
            logits[..., count:] += text
        return self.chances(self.hide(logits)).to(value.dtype) @ value

    def hide(self, logits: Tensor) -> Tensor:
        """Write minus infinity at padding, in place.

        Padding stands at the end, and so only a few columns are visited.
        (b, H, t, P + t) -> (b, H, t, P + t).
        """
        tail = self.bucket.tail
        if tail is not None:
            logits[..., -tail.shape[-1] :].masked_fill_(tail, -torch.inf)
        return logits

    def chances(self, logits: Tensor) -> Tensor:
        """Return attention probabilities in float32.

        (b, H, t, P + t) -> (b, H, t, P + t).
        """
        width = logits.shape[-1]
        if width < VECTOR:
            logits = F.pad(logits, (0, VECTOR - width), value=-torch.inf)
        chance = logits.softmax(-1, dtype=torch.float32)[..., :width]
        if self.watch is not None:
            self.watch(chance, self.bucket)
        return chance

    def text_mask(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Return what the family adds to the logits between rows, or None.

        (b, H, t, K), (b, H, t, K) -> (b|1, H|1, t, t) float32.
        """
        return None if self.bias is None else self.bias(query, key, self.bucket).float()

    @property
    def changes_front(self) -> bool:
        """Whether logits towards the prefix are more than products."""
        return self.prefix is not None and not self.prefix.plain

    def front_mask(self, logits: Tensor) -> Tensor | None:
        """Return what to add to the logits towards the prefix, or None.

        (b, H, t, P) -> (b, H|1, t|1, P) float32.
        """
        if self.prefix is None:
            return None
        added = None if self.prefix.rescore is None else self.prefix.rescore(logits, self.bucket.example)
        if self.prefix.length is not None:
            absent = (
                torch.arange(logits.shape[-1], device=logits.device)
                >= self.prefix.length[self.bucket.example][:, None]
            )
            hidden = torch.zeros(absent.shape, device=logits.device).masked_fill_(absent, -torch.inf)[
                :, None, None
            ]
            added = hidden if added is None else added + hidden
        return added

    def mask(self, query: Tensor, key: Tensor, front: Tensor | None) -> Tensor | None:
        """Return what to add to the logits, (b|1, H|1, t|1, P + t) float32, or None.

        front: the prefix's keys.
        (b, H, t, K), (b, H, t, K) -> (b|1, H|1, t|1, P + t) float32.
        """
        added = (
            None if self.prefix is None or front is None else self.front_mask(query * self.scale @ front.mT)
        )
        text = self.text_mask(query, key)
        if text is None and added is None and self.bucket.pad is None:
            return None
        text = torch.zeros(1, 1, 1, key.shape[-2], device=query.device) if text is None else text
        if self.bucket.pad is not None:
            text = self.hide(text.expand(len(query), -1, -1, -1).clone())
        if front is None:
            return text
        if added is None:
            return F.pad(text, (front.shape[2], 0))
        shape = torch.broadcast_shapes(added.shape[:3], text.shape[:3])
        return torch.cat([added.expand(*shape, -1), text.expand(*shape, -1)], dim=-1)


def _fronts(prefix: Prefix | None, layout: Layout, dtype: torch.dtype) -> Sequence[Front]:
    """Return each bucket's prefix keys and values: (b, H, P, K)."""
    if prefix is None:
        return [None] * len(layout.buckets)
    sizes = [len(bucket.example) for bucket in layout.buckets]
    key, value = (to_buckets(x.to(dtype), layout).transpose(1, 2).split(sizes) for x in prefix[:2])
    return list(zip(key, value, strict=True))
