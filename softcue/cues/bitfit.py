"""BitFit: the biases of the frozen encoder, and nothing else (Ben Zaken, Goldberg and Ravfogel, 2022)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from softcue.options import Options
from softcue.protocol import Context, Cue, Dims


@dataclass(frozen=True)
class BitfitConfig(Options):
    """BitFit has no options: every bias is trained, as in the published code."""


class Bitfit(Cue, method="bitfit", config=BitfitConfig):
    """A learnt vector added to every bias of the frozen encoder.

    What is learnt is the difference from the checkpoint's bias. It starts at zero, and the encoder itself
    does not change, so that other adapters can share it.
    """

    def __init__(self, dims: Dims, config: BitfitConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        in_layers = {
            site: torch.zeros(adapters, dims.layers, width) for site, width in layer_sites(dims).items()
        }
        outside = {site: torch.zeros(adapters, width) for site, width in single_sites(dims).items()}
        self.every_layer = nn.ParameterDict(in_layers)  # (A, L, O) by site
        self.once = nn.ParameterDict(outside)  # (A, O) by site

    @classmethod
    def count(cls, dims: Dims, config: BitfitConfig) -> int:
        """Return L (7 D + ff), plus the embedding norm's width, plus D where there is a pooler.

        The embedding norm is as wide as the word vectors (E) in most families.
        """
        return dims.layers * sum(layer_sites(dims).values()) + sum(single_sites(dims).values())

    def on_affine(self, layer: int, site: str, x: Tensor, y: Tensor, ctx: Context) -> Tensor:
        """Return the output with the learnt bias of its seat added: (M, I), (M, O) -> (M, O)."""
        batch = ctx.batch
        seat = batch.seat if site == "pooler" else batch.seat[batch.owner]
        bias = self.once[site][seat] if site in self.once else self.every_layer[site][seat, layer]
        return y + bias.to(y.dtype)


def layer_sites(dims: Dims) -> dict[str, int]:
    """Return the sites that every layer has, each with the number of its outputs."""
    sites = dict.fromkeys(("query", "key", "value", "out", "down", "norm1", "norm2"), dims.hidden)
    sites["up"] = dims.ff
    return sites


def single_sites(dims: Dims) -> dict[str, int]:
    """Return the sites outside the layers, each with the number of its outputs."""
    sites = {"embed_norm": dims.embed_norm or dims.embed}
    if dims.pooler:
        sites["pooler"] = dims.hidden
    return sites
