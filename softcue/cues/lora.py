"""LoRA: a product of two thin matrices beside chosen frozen maps (Hu et al., 2022)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from softcue.batch import Runs
from softcue.kernels.dropout import drop
from softcue.kernels.thin import fits_thin, plus_thin
from softcue.options import Options, per_seat_setting, setting
from softcue.protocol import Context, Cue, Dims
from softcue.rows import matrix_share, per_seat

# `down` is left out: in gated families its input has no name in Dims
LORA_SITES = ("query", "key", "value", "out", "up")


@dataclass(frozen=True)
class LoraConfig(Options):
    """Published defaults; grades as in docs/methods/lora.md."""

    rank: int = setting(8, least=1)  # (paper: 8 for RoBERTa on GLUE)
    # the product is scaled by alpha / rank (paper: 8 or 16 for RoBERTa)
    alpha: float = per_seat_setting(16.0)
    dropout: float = per_seat_setting(0.0, least=0, below=1)  # of the input of the product
    sites: tuple[str, ...] = ("query", "value")  # maps that get one (paper: query and value)

    def problems(self) -> list[str]:
        """Refuse sites that do not exist, or that come twice."""
        good = self.sites and len(set(self.sites)) == len(self.sites) and set(self.sites) <= set(LORA_SITES)
        return (
            []
            if good
            else [f"sites is {self.sites}; expected one or more of {', '.join(LORA_SITES)}, each once"]
        )


class Lora(Cue, method="lora", config=LoraConfig):
    """y + alpha / rank * drop(x) A B at every site of every layer."""

    alpha: Tensor
    dropout: Tensor

    def __init__(self, dims: Dims, config: LoraConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        bound = dims.hidden**-0.5  # of nn.Linear, as in the published code
        self.shrink = nn.ParameterDict(
            {
                s: torch.empty(adapters, dims.layers, dims.hidden, config.rank).uniform_(-bound, bound)
                for s in config.sites
            }
        )  # A: (A, L, D, r)
        # B
        self.grow = nn.ParameterDict(
            {s: torch.zeros(adapters, dims.layers, config.rank, width(dims, s)) for s in config.sites}
        )

    @classmethod
    def count(cls, dims: Dims, config: LoraConfig) -> int:
        """Count L r (D + O) for each site with O outputs."""
        return sum(dims.layers * config.rank * (dims.hidden + width(dims, site)) for site in config.sites)

    @classmethod
    def rate_share(cls, dims: Dims) -> float:
        """Return a matrix's share, as `matrix_share` says."""
        return matrix_share(dims)

    def edited(self, ctx: Context) -> frozenset[str]:
        """Return the config's sites."""
        return frozenset(self.config.sites)

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """Leave the input alone: (N, D) -> (N, D).

        At the first layer it finds what the maps of all layers need.
        """
        if layer == 0:
            row_seat = ctx.batch.seat[ctx.batch.owner]  # (M,)
            tables = {
                site: (self.shrink[site].unbind(1), self.grow[site].unbind(1)) for site in self.config.sites
            }
            ctx.memory = tables, (self.alpha / self.config.rank).float(), row_seat
        return hidden

    def on_affine(self, layer: int, site: str, x: Tensor, y: Tensor, ctx: Context) -> Tensor:
        """Add the low-rank product to a map's output: (M, I), (M, O) -> (M, O)."""
        tables, scale, row_seat = ctx.memory
        shrink, grow = tables[site]
        x = drop(x, self.dropout, row_seat, self.training)
        if fits_thin(y, x, shrink[layer]):
            return plus_thin(y, x, shrink[layer], grow[layer], scale, ctx.batch.row_runs)
        thin = per_seat(x, shrink[layer], ctx.batch.row_runs) * scale.to(x.dtype)[row_seat, None]  # (M, r)
        return plus_per_seat(y, thin, grow[layer], ctx.batch.row_runs)


def plus_per_seat(y: Tensor, x: Tensor, weight: Tensor, runs: Runs) -> Tensor:
    """Add per_seat(x, weight, runs) to y: (M, O), (M, I), (A, I, O) -> (M, O).

    It works in place where there is no backward pass.
    """
    if torch.is_grad_enabled():
        return y + per_seat(x, weight, runs)
    if len(runs) == 1:
        return y.addmm_(x, weight[runs[0][0]].to(x.dtype))
    return y.add_(per_seat(x, weight, runs))


def width(dims: Dims, site: str) -> int:
    """Return the outputs of a site."""
    return dims.ff if site == "up" else dims.hidden
