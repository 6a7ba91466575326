"""GPC, global prompt cell: one recurrent cell rewrites the prompt between layers (Liu et al.,
2023; a reconstruction).
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
    # a sum, its tanh, or z * P + (1 - z) * O with z = sigmoid([P; O] W) (inferred)
    combine: Literal["plain", "tanh", "gate"] = "plain"
    # remember the last cell's output, or always the first prompt (inferred)
    memory: Literal["previous", "initial"] = "previous"
    shared: bool = True  # one cell for all layers ("global": inferred), or one each
    bias: bool = False  # (inferred)
    norm: bool = False  # LayerNorm after the cell (inferred)
    # of the job's rate, for the cell: a prompt wants 30 times a matrix's (own choice)
    cell_rate: float = setting(0.03, least=0)
    # identity: forget nothing, remember nothing: prompt tuning at step 0 (inferred)
    init: Literal["identity", "normal"] = "identity"

    def problems(self) -> list[str]:
        """Refuse a convex gate that is to start as the identity: no weights make it so."""
        wrong = self.combine == "gate" and self.init == "identity"
        return ["combine is 'gate', which cannot start as the identity; set init='normal'"] if wrong else []


class Gpc(Cue, method="gpc", config=GpcConfig):
    """P' = F(P W_r + O W_f) at the prompt's rows between layers; text rows pass unchanged."""

    def __init__(self, dims: Dims, config: GpcConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        self.reserve = self.shift = config.length
        self.size_share = matrix_share(dims)
        cells, hidden = number_of_cells(dims, config), dims.hidden
        # (A, P, D)
        self.vectors = nn.Parameter(torch.empty(adapters, config.length, hidden).normal_(std=0.02))
        square = adapters, cells, hidden, hidden
        if config.init == "identity":
            remember, forget = torch.zeros(square), torch.eye(hidden).expand(square).clone()
        else:
            remember, forget = torch.empty(square).normal_(std=0.02), torch.empty(square).normal_(std=0.02)
        self.remember = nn.Parameter(remember)  # W_r: acts on what entered the layer
        self.forget = nn.Parameter(forget)  # W_f: acts on what the layer made of it
        if config.bias:
            self.bias = nn.Parameter(torch.zeros(adapters, cells, hidden))
        if config.norm:
            self.norm_weight = nn.Parameter(torch.ones(adapters, cells, hidden))
            self.norm_bias = nn.Parameter(torch.zeros(adapters, cells, hidden))

    def rate_shares(self) -> dict[str, float]:
        """Return `cell_rate` for the cell's weights, less of it on encoders that are larger than MiniLM."""
        share = self.config.cell_rate * self.size_share
        return {name: share for name, _ in self.named_parameters() if name != "vectors"}

    @classmethod
    def count(cls, dims: Dims, config: GpcConfig) -> int:
        """Count P D + cells (2 D^2 + D with bias + 2 D with norm); cells is 1 or L - 1."""
        cell = 2 * dims.hidden**2 + (config.bias + 2 * config.norm) * dims.hidden
        return config.length * dims.hidden + number_of_cells(dims, config) * cell

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """Write the prompt at the first layer, and the cell's output at the others: (N, D) -> (N, D)."""
        row = ctx.batch.reserved[:, : self.reserve]
        entered = (
            copies(self.vectors, ctx.batch, hidden.dtype)
            if layer == 0
            else self.cell(layer, read_rows(hidden, row), ctx)
        )
        if layer == 0 or self.config.memory == "previous":
            ctx.memory = entered  # (B, P, D)
        return set_rows(hidden, row, entered)

    def cell(self, layer: int, left: Tensor, ctx: Context) -> Tensor:
        """Compute what enters `layer` from what the layer below left: (B, P, D) -> (B, P, D).

        Both stand in the prompt's rows.
        """
        config, seat, runs = self.config, ctx.batch.seat, ctx.batch.runs
        cell = 0 if config.shared else layer - 1
        mixed = per_seat(ctx.memory, self.remember[:, cell], runs) + per_seat(
            left, self.forget[:, cell], runs
        )
        if config.bias:
            mixed = mixed + self.bias[seat, cell, None].to(mixed.dtype)
        if config.combine == "tanh":
            mixed = torch.tanh(mixed)
        if config.combine == "gate":
            keep = torch.sigmoid(mixed)
            mixed = keep * ctx.memory + (1 - keep) * left
        if config.norm:
            unit = F.layer_norm(mixed.float(), mixed.shape[-1:])
            mixed = (unit * self.norm_weight[seat, cell, None] + self.norm_bias[seat, cell, None]).to(
                mixed.dtype
            )
        return mixed


def number_of_cells(dims: Dims, config: GpcConfig) -> int:
    """Return one, or one between each two layers.

    There is none after the last layer, whose prompt rows nobody reads.
    """
    return 1 if config.shared else dims.layers - 1
