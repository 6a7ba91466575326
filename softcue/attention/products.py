"""Attention as matrix products, one step of autograd with its backward pass written out."""

from typing import Any

import torch
from torch import Tensor

from softcue.kernels.dropout import dropout_mask

VECTOR = 16  # floats in a vector register: torch's softmax over fewer falls to scalar code, ten times slower


class Products(torch.autograd.Function):
    """softmax([ahead, query key' * scale + mask]) value, padding hidden, with dropout.

    Its backward pass is products of contiguous operands.
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def, override]
        ctx,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        ahead: Tensor | None,
        sight: Any,
    ) -> Tensor:
        query = query * sight.scale
        logits = query @ key.mT
        logits = logits if mask is None else logits + mask
        ctx.count = 0 if ahead is None else ahead.shape[-1]
        chance = sight.chances(sight.hide(logits if ahead is None else torch.cat([ahead, logits], dim=-1)))
        seen = chance.to(value.dtype)
        kept = dropout_mask(seen, sight.dropout) if sight.dropout else None
        seen = seen if kept is None else seen * kept
        ctx.sight, ctx.mask_shape = sight, None if mask is None else mask.shape
        ctx.save_for_backward(query, key, value, chance, seen, kept)
        return seen @ value

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def, override]
        query, key, value, chance, seen, kept = ctx.saved_tensors
        to_seen = grad @ value.mT
        to_seen = to_seen if kept is None else to_seen.mul_(kept)
        to_logits = _softmax_back(to_seen, chance)
        to_ahead = to_logits[..., : ctx.count] if ctx.count else None
        to_logits = to_logits[..., ctx.count :]
        to_mask = to_logits.sum_to_size(ctx.mask_shape) if ctx.needs_input_grad[3] else None
        low = to_logits.to(query.dtype)
        # below the lowest cue nobody asks
        to_query = (low @ key).mul_(ctx.sight.scale) if ctx.needs_input_grad[0] else None
        return to_query, low.mT @ query, seen.mT @ grad, to_mask, to_ahead, None


def _softmax_back(grad: Tensor, chance: Tensor) -> Tensor:
    """Return the gradient of logits from that of their softmax: (.., K), (.., K) -> (.., K) float32."""
    if chance.shape[-1] >= VECTOR:
        return torch._softmax_backward_data(grad.float(), chance, -1, torch.float32)
    weighted = grad * chance  # torch's kernel would fall to scalar code here too
    return torch.addcmul(weighted, chance, weighted.sum(-1, keepdim=True), value=-1)
