"""A Transformer layer in two halves: attention among rows, and what follows for each row by itself."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from softcue.attention.attend import Bias, attend, attend_once
from softcue.attention.layout import Layout
from softcue.batch import Reads
from softcue.encoder.affine import SITES_AFTER, SITES_BEFORE, Edit, affine, among, edit_qkv
from softcue.encoder.frozen import Half, frozen_rest, project
from softcue.encoder.linear import ACTIVATIONS, FUSED, Linear, longer
from softcue.encoder.spec import Spec
from softcue.kernels.dropout import dropout_mask
from softcue.kernels.norm import add_norm, fits_norm
from softcue.protocol import Prefix


@dataclass(frozen=True)
class LayerInputs:
    """What a layer is inputs beside the rows."""

    layout: Layout
    prefix: Prefix | None  # keys and values in front of each example
    shared: Any  # what Encoder.shared returned for this forward
    edit: Edit | None  # what the cue does to the layer's affine maps
    kernel: str  # of attention, one of attend.KERNELS


class Halves(nn.Module, ABC):
    """A Transformer layer as attention among rows, and what follows for each row by itself."""

    @abstractmethod
    def mix(self, hidden: Tensor, inputs: LayerInputs) -> tuple[Tensor, Tensor]:
        """Return what attention makes of the rows, and the rows again: (N, D) -> (N, D), (N, D)."""

    @abstractmethod
    def finish(self, hidden: Tensor, mixed: Tensor, edit: Edit | None) -> Tensor:
        """Compute what follows attention, each row by itself: (M, D), (M, D) -> (M, D)."""

    def forward(self, hidden: Tensor, inputs: LayerInputs) -> Tensor:
        """Apply the whole layer: (N, D) -> (N, D)."""
        mixed, hidden = self.mix(hidden, inputs)
        return self.finish(hidden, mixed, inputs.edit)

    def reads(self, edit: Edit | None) -> bool:
        """Say whether `read` may stand in for `forward`.

        It may not where a family's own does more, or a cue edits what follows attention.
        """
        return type(self).forward is Halves.forward and among(edit, SITES_AFTER) is None

    def read(self, hidden: Tensor, row: Tensor, reads: Reads, inputs: LayerInputs) -> Tensor:
        """Apply the layer at the rows that are read alone: (N, D), (M,) -> (M, D)."""
        mixed, hidden = self.mix(hidden, inputs)
        return self.finish(hidden.index_select(0, row), mixed.index_select(0, row), None)


class Layer(Halves):
    """A post-norm Transformer layer (Devlin et al., 2019)."""

    # the halves whose output goes through dropout, by the norm that ends them
    drops: tuple[str, ...] = ("norm1", "norm2")

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.qkv = Linear(spec.hidden, 3 * spec.hidden)
        self.out = Linear(spec.hidden, spec.hidden)
        self.norm1 = nn.LayerNorm(spec.hidden, eps=spec.epsilon)
        self.up = Linear(spec.hidden, spec.ff)
        self.down = Linear(spec.ff, spec.hidden)
        self.norm2 = nn.LayerNorm(spec.hidden, eps=spec.epsilon)

    def bias(self, shared: Any) -> Bias | None:
        """Return what this layer adds to the logits between text rows, from what Encoder.shared returned."""
        bias: Bias | None = shared
        return bias

    def scale(self) -> float | None:
        """Return the factor on the logits; None: 1 / sqrt(K)."""
        return None

    def mix(self, hidden: Tensor, inputs: LayerInputs) -> tuple[Tensor, Tensor]:
        """Return what attention makes of the rows, and the rows again: (N, D) -> (N, D), (N, D)."""
        rows, hidden = project(self.qkv, hidden) if self.goes_back(hidden) else (self.qkv(hidden), hidden)
        qkv = edit_qkv(rows, hidden, self.spec.heads, inputs.edit)
        bias = self.bias(inputs.shared)
        return attend(qkv, inputs.layout, inputs.prefix, bias, self.scale(), self.drop, inputs.kernel), hidden

    def read(self, hidden: Tensor, row: Tensor, reads: Reads, inputs: LayerInputs) -> Tensor:
        """Apply the layer at the rows that are read alone: (N, D), (M,) -> (M, D).

        Where one row of each example is read, and the family adds nothing to logits, no other row has a
        query.
        """
        if reads == "words" or inputs.shared is not None or among(inputs.edit, SITES_BEFORE) is not None:
            return super().read(hidden, row, reads, inputs)
        own, heads, width = hidden.index_select(0, row), self.spec.heads, self.spec.hidden
        query = self.qkv.part(own, 0, width).view(len(own), heads, -1)
        kv = self.qkv.part(hidden, width, 3 * width).view(len(hidden), 2, heads, -1)
        mixed = attend_once(query, kv, inputs.layout, inputs.prefix, self.scale(), self.drop, inputs.kernel)
        return self.finish(own, mixed, None)

    def finish(self, hidden: Tensor, mixed: Tensor, edit: Edit | None) -> Tensor:
        """Compute what follows attention, each row by itself: (M, D), (M, D) -> (M, D)."""
        edit, name = among(edit, SITES_AFTER), self.spec.activation
        if edit is None and name in FUSED and self.goes_back(mixed):
            first, second = (
                Half(self.out, self.norm1, self.rate("norm1")),
                Half(self.down, self.norm2, self.rate("norm2")),
            )
            return frozen_rest(mixed, hidden, first, self.up, name, second)
        count = len(hidden)
        if edit is None and self.out.packs(mixed):
            hidden, mixed = longer(hidden), longer(mixed)
        hidden = self.close(self.out, "out", mixed, self.norm1, "norm1", hidden, edit)
        wide = (
            self.up.activated(hidden, name)
            if edit is None
            else ACTIVATIONS[name](affine(self.up, "up", hidden, edit))
        )
        return self.close(self.down, "down", wide, self.norm2, "norm2", hidden, edit)[:count]

    def goes_back(self, x: Tensor) -> bool:
        """Say whether the backward pass reaches x through this layer.

        The layer is frozen and as Linear.frees wants it.
        (N, D) -> bool.
        """
        return (
            torch.is_grad_enabled()
            and x.requires_grad
            and self.out.frees(x)
            and not self.norm1.weight.requires_grad
        )

    @property
    def drop(self) -> float:
        """Rate of dropout of attention probabilities."""
        return self.spec.attention_dropout if self.training else 0.0

    def rate(self, end: str) -> float:
        """Return the rate of dropout before the norm of that name."""
        return self.spec.dropout if self.training and end in self.drops else 0.0

    def close(
        self,
        linear: Linear,
        site: str,
        x: Tensor,
        norm: nn.LayerNorm,
        end: str,
        residual: Tensor,
        edit: Edit | None,
    ) -> Tensor:
        """Apply the last map of one half of the layer, dropout, residual and norm.

        (M, I), (M, D) -> (M, D).
        """
        if edit is None and not self.training:
            closed: Tensor = norm(linear.added(x, residual))
            return closed
        y, rate = affine(linear, site, x, edit), self.rate(end)
        if among(edit, frozenset((end,))) is None and fits_norm(y, residual, norm, rate):
            return add_norm(y, residual, norm, rate)
        return affine(
            norm, end, torch.addcmul(residual, y, dropout_mask(y, rate)) if rate else residual + y, edit
        )
