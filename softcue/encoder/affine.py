"""The affine maps of an encoder, and what a cue makes of their outputs."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from softcue.protocol import Context, Cue

SITES_BEFORE = frozenset(("query", "key", "value"))  # maps before a layer's attention
# and after it, in all families but for norm1, which pre-norm ones have before
SITES_AFTER = frozenset(("out", "up", "down", "norm1", "norm2"))


@dataclass(frozen=True)
class Edit:
    """A cue's on_affine bound to a layer and a context, for the sites that the cue changes."""

    cue: Cue
    layer: int
    ctx: Context
    sites: frozenset[str]

    def __call__(self, site: str, x: Tensor, y: Tensor) -> Tensor:
        """Edit what a map made of x: (M, I), (M, O) -> (M, O)."""
        return self.cue.on_affine(self.layer, site, x, y, self.ctx) if site in self.sites else y


def edits(cue: Cue, layer: int, ctx: Context) -> Edit | None:
    """Return what the cue does to the affine maps of one layer, or None where it leaves them alone."""
    sites = cue.edited(ctx)
    return Edit(cue, layer, ctx, sites) if sites else None


def among(edit: Edit | None, sites: frozenset[str]) -> Edit | None:
    """Return the same edit, or None where it leaves these sites alone."""
    return None if edit is None or edit.sites.isdisjoint(sites) else edit


def affine(module: nn.Module, site: str, x: Tensor, edit: Edit | None) -> Tensor:
    """Apply one frozen map, and what the cue makes of its output.

    (M, I) -> (M, O).
    """
    y: Tensor = module(x)
    if edit is None:
        return y
    # an identity returns x itself (ModernBERT's first norm), and an edit may change y in place
    return edit(site, x, y.clone() if y is x else y)


def edit_qkv(qkv: Tensor, x: Tensor, heads: int, edit: Edit | None) -> Tensor:
    """Edit query, key and value of x: (N, 3 D), (N, D) -> (N, 3, H, K).

    They come from one product and are three sites.
    """
    edit = among(edit, SITES_BEFORE)
    if edit is not None:
        parts = qkv.chunk(3, dim=-1)
        edited = [edit(site, x, y) for site, y in zip(("query", "key", "value"), parts, strict=True)]
        # else they were changed where they stand
        if any(made is not y for made, y in zip(edited, parts, strict=True)):
            qkv = torch.cat(edited, dim=-1)
    return qkv.view(len(x), 3, heads, -1)
