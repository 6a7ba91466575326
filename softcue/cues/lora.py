"""LoRA: a product of two thin matrices beside chosen frozen maps (Hu et al., 2022)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from softcue.batch import Runs
from softcue.kernels.dropout import drop
from softcue.kernels.thin import fits_thin, plus_thin
from softcue.options import Options, per_seat_setting, setting
from softcue.protocol import Context, Cue, Dims
from softcue.rows import layers_from, matrix_share, per_seat

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
    # layers below it are left alone, and shared with other adapters of one text (own choice)
    first_layer: int = setting(0, least=0)

    def problems(self) -> list[str]:
        """Refuse sites that do not exist, sites named twice, and no sites at all."""
        sites = set(self.sites)
        if sites and len(sites) == len(self.sites) and sites <= set(LORA_SITES):
            return []
        return [f"sites is {self.sites}; expected one or more of {', '.join(LORA_SITES)}, each once"]


class Lora(Cue, method="lora", config=LoraConfig):
    """The product of two thin matrices added to frozen maps: y + alpha / rank * drop(x) A B.

    Every layer has one product at each of the config's sites.
    """

    alpha: Tensor
    dropout: Tensor

    def __init__(self, dims: Dims, config: LoraConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        bound = dims.hidden**-0.5  # as nn.Linear initialises, which the published code uses
        self.first_layer = config.first_layer
        layers = layers_from(config.first_layer, dims)
        narrow = adapters, layers, dims.hidden, config.rank
        shrink = {site: torch.empty(narrow).uniform_(-bound, bound) for site in config.sites}
        grow = {site: torch.zeros(adapters, layers, config.rank, width(dims, site)) for site in config.sites}
        self.shrink = nn.ParameterDict(shrink)  # the equation's A, by site: (A, L, D, r)
        self.grow = nn.ParameterDict(grow)  # the equation's B, by site: (A, L, r, O)

    @classmethod
    def count(cls, dims: Dims, config: LoraConfig) -> int:
        """Return L r (D + O), summed over the sites, where O is the number of a site's outputs.

        L counts from `first_layer`.
        """
        layers = layers_from(config.first_layer, dims)
        return sum(layers * config.rank * (dims.hidden + width(dims, site)) for site in config.sites)

    @classmethod
    def rate_share(cls, dims: Dims) -> float:
        """Return a smaller share for an encoder with more layers or a greater width."""
        return matrix_share(dims)

    def edited(self, ctx: Context) -> frozenset[str]:
        """Return the config's sites."""
        return frozenset(self.config.sites)

    def first_touched(self, seat: int) -> int:
        """Return `first_layer`."""
        return self.first_layer

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """Return the input unchanged; the first layer gathers what the maps of all layers need.

        (N, D) -> (N, D).
        """
        if ctx.memory is None:
            row_seat = ctx.batch.seat[ctx.batch.owner]  # (M,)
            tables = {
                site: (self.shrink[site].unbind(1), self.grow[site].unbind(1)) for site in self.config.sites
            }
            scale = (self.alpha / self.config.rank).float()  # (A,)
            ctx.memory = tables, scale, row_seat
        return hidden

    def on_affine(self, layer: int, site: str, x: Tensor, y: Tensor, ctx: Context) -> Tensor:
        """Return the output with the product of the two thin matrices added: (M, I), (M, O) -> (M, O)."""
        if layer < self.first_layer:
            return y
        layer -= self.first_layer
        tables, scale, row_seat = ctx.memory
        shrink, grow = tables[site]
        x = drop(x, self.dropout, row_seat, self.training)
        if fits_thin(y, x, shrink[layer]):
            return plus_thin(y, x, shrink[layer], grow[layer], scale, ctx.batch.row_runs)
        thin = per_seat(x, shrink[layer], ctx.batch.row_runs) * scale.to(x.dtype)[row_seat, None]  # (M, r)
        return plus_per_seat(y, thin, grow[layer], ctx.batch.row_runs)


def plus_per_seat(y: Tensor, x: Tensor, weight: Tensor, runs: Runs) -> Tensor:
    """Add per_seat(x, weight, runs) to y, in place where there is no backward pass.

    (M, O), (M, I), (A, I, O) -> (M, O).
    """
    if torch.is_grad_enabled():
        return y + per_seat(x, weight, runs)
    if len(runs) == 1:
        return y.addmm_(x, weight[runs[0][0]].to(x.dtype))
    return y.add_(per_seat(x, weight, runs))


def width(dims: Dims, site: str) -> int:
    """Return the number of a site's outputs."""
    return dims.ff if site == "up" else dims.hidden
