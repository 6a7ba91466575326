"""GPC, global prompt cell: one recurrent cell rewrites the prompt between layers.

Liu et al., 2023; a reconstruction.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softcue.options import LONGEST_PREFIX, Options, setting
from softcue.protocol import Context, Cue, Dims
from softcue.rows import copies, matrix_share, per_seat, read_rows, set_rows


@dataclass(frozen=True)
class GpcConfig(Options):
    """A reconstruction: all defaults but `length` are inferred; grades as in docs/methods/gpc.md."""

    length: int = setting(16, least=1, below=LONGEST_PREFIX)  # prompt vectors (unknown)
    # the cell's F: the sum itself, its tanh, or z * P + (1 - z) * O with z = sigmoid([P; O] W) (inferred)
    combine: Literal["plain", "tanh", "gate"] = "plain"
    # what W_r multiplies: the last cell's output, or always the first prompt (inferred)
    memory: Literal["previous", "initial"] = "previous"
    shared: bool = True  # one cell for all layers ("global": inferred), or one each
    bias: bool = False  # (inferred)
    norm: bool = False  # LayerNorm after the cell (inferred)
    # the cell's share of the job's learning rate: a prompt wants 30 times the rate of a matrix (own choice)
    cell_rate: float = setting(0.03, least=0)
    # identity: the cell starts by passing the prompt through unchanged, as prompt tuning does (inferred)
    init: Literal["identity", "normal"] = "identity"

    def problems(self) -> list[str]:
        """Refuse a convex gate that should start as the identity: no weights make it so."""
        if self.combine == "gate" and self.init == "identity":
            return ["combine is 'gate', which cannot start as the identity; set init='normal'"]
        return []


class Gpc(Cue, method="gpc", config=GpcConfig):
    """A cell that computes P' = F(P W_r + O W_f) at the prompt's rows between layers.

    P is what entered the layer below, or always the first prompt, as `memory` says. O is what the layer below
    returned. Text rows pass unchanged.
    """

    grade = "reconstruction"

    def __init__(self, dims: Dims, config: GpcConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        self.reserve = self.shift = config.length
        self.size_share = matrix_share(dims)
        cells, hidden = number_of_cells(dims, config), dims.hidden
        vectors = torch.empty(adapters, config.length, hidden).normal_(std=0.02)
        square = adapters, cells, hidden, hidden
        if config.init == "identity":
            remember = torch.zeros(square)
            forget = torch.eye(hidden).expand(square).clone()
        else:
            remember = torch.empty(square).normal_(std=0.02)
            forget = torch.empty(square).normal_(std=0.02)
        self.vectors = nn.Parameter(vectors)  # (A, P, D)
        self.remember = nn.Parameter(remember)  # W_r (A, C, D, D): multiplies what entered the layer
        self.forget = nn.Parameter(forget)  # W_f (A, C, D, D): multiplies what the layer returned
        if config.bias:
            self.bias = nn.Parameter(torch.zeros(adapters, cells, hidden))
        if config.norm:
            self.norm_weight = nn.Parameter(torch.ones(adapters, cells, hidden))
            self.norm_bias = nn.Parameter(torch.zeros(adapters, cells, hidden))

    def rate_shares(self) -> dict[str, float]:
        """Return the cell's parameters' share of the prompt's learning rate.

        It is `cell_rate`, and less of it on encoders that are larger than MiniLM.
        """
        share = self.config.cell_rate * self.size_share
        return {name: share for name, _ in self.named_parameters() if name != "vectors"}

    @classmethod
    def count(cls, dims: Dims, config: GpcConfig) -> int:
        """Return P D + cells (2 D^2 + D with bias + 2 D with norm), where cells is 1 or L - 1."""
        cell = 2 * dims.hidden**2 + (config.bias + 2 * config.norm) * dims.hidden
        return config.length * dims.hidden + number_of_cells(dims, config) * cell

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """Write the prompt at the first layer, the cell's output at the others: (N, D) -> (N, D)."""
        row = ctx.batch.reserved[:, : self.reserve]
        if layer == 0:
            entered = copies(self.vectors, ctx.batch, hidden.dtype)
        else:
            entered = self.cell(layer, read_rows(hidden, row), ctx)
        if layer == 0 or self.config.memory == "previous":
            ctx.memory = entered  # (B, P, D)
        return set_rows(hidden, row, entered)

    def cell(self, layer: int, left: Tensor, ctx: Context) -> Tensor:
        """Return the prompt that enters `layer`: (B, P, D) -> (B, P, D).

        left: what the layer below returned in the prompt's rows.
        """
        config, seat, runs = self.config, ctx.batch.seat, ctx.batch.runs
        cell = 0 if config.shared else layer - 1
        remembered = per_seat(ctx.memory, self.remember[:, cell], runs)
        renewed = per_seat(left, self.forget[:, cell], runs)
        if ctx.watch is not None:
            ctx.watch("remembered", layer, remembered)  # (B, P, D)
            ctx.watch("renewed", layer, renewed)  # (B, P, D)
            if config.init == "identity":
                ctx.watch("moved", layer, self.moved(int(seat[0]), cell))
        mixed = remembered + renewed
        if config.bias:
            mixed = mixed + self.bias[seat, cell, None].to(mixed.dtype)
        if config.combine == "tanh":
            mixed = torch.tanh(mixed)
        if config.combine == "gate":
            keep = torch.sigmoid(mixed)
            mixed = keep * ctx.memory + (1 - keep) * left
        if config.norm:
            unit = F.layer_norm(mixed.float(), mixed.shape[-1:])
            normed = unit * self.norm_weight[seat, cell, None] + self.norm_bias[seat, cell, None]
            mixed = normed.to(mixed.dtype)
        return mixed

    def moved(self, seat: int, cell: int) -> Tensor:
        """Return how far W_r lies from zero and W_f from the identity, where both began: (2,).

        In Frobenius norms of the identity, sqrt(D).
        """
        remember, forget = self.remember[seat, cell].float(), self.forget[seat, cell].float()
        start = torch.eye(len(forget), device=forget.device)
        distance = torch.stack([remember.norm(), (forget - start).norm()])
        return distance / len(forget) ** 0.5


def number_of_cells(dims: Dims, config: GpcConfig) -> int:
    """Return how many cells there are: one for all layers, or one between each two layers.

    There is none after the last layer, whose prompt rows nobody reads.
    """
    return 1 if config.shared else dims.layers - 1
