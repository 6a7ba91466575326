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
    """Biases that are learnt as the difference to the checkpoint's.

    So they start at zero and the encoder stays shared.
    """

    def __init__(self, dims: Dims, config: BitfitConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        # (A, L, O)
        self.every_layer = nn.ParameterDict(
            {s: torch.zeros(adapters, dims.layers, w) for s, w in layer_sites(dims).items()}
        )
        # (A, O)
        self.once = nn.ParameterDict({s: torch.zeros(adapters, w) for s, w in single_sites(dims).items()})

    @classmethod
    def count(cls, dims: Dims, config: BitfitConfig) -> int:
        """Count L (7 D + ff), the embedding norm's width, and D where there is a pooler.

        The embedding norm is E wide in most families.
        """
        return dims.layers * sum(layer_sites(dims).values()) + sum(single_sites(dims).values())

    def on_affine(self, layer: int, site: str, x: Tensor, y: Tensor, ctx: Context) -> Tensor:
        """Add the adapter's bias to a map's output: (M, I), (M, O) -> (M, O)."""
        batch = ctx.batch
        seat = batch.seat if site == "pooler" else batch.seat[batch.owner]
        bias = self.once[site][seat] if site in self.once else self.every_layer[site][seat, layer]
        return y + bias.to(y.dtype)


def layer_sites(dims: Dims) -> dict[str, int]:
    """Return the sites of every layer and their outputs."""
    return {
        **dict.fromkeys(("query", "key", "value", "out", "down", "norm1", "norm2"), dims.hidden),
        "up": dims.ff,
    }


def single_sites(dims: Dims) -> dict[str, int]:
    """Return the sites outside the layers and their outputs."""
    return {"embed_norm": dims.embed_norm or dims.embed, **({"pooler": dims.hidden} if dims.pooler else {})}
