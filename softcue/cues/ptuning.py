"""P-tuning v2: learnt keys and values in front of every layer's attention (Liu et al., 2022)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from softcue.kernels.dropout import drop
from softcue.options import LONGEST_PREFIX, Options, per_seat_setting, setting
from softcue.protocol import Context, Cue, Dims, Prefix
from softcue.rows import copies, layers_from, of_layer, per_seat


@dataclass(frozen=True)
class PtuningConfig(Options):
    """Published defaults; grades as in docs/methods/ptuning.md."""

    length: int = setting(16, least=1, below=LONGEST_PREFIX)  # prefix tokens (code: 8 to 144, by task)
    # dropout of keys and values, with one mask per example (code)
    dropout: float = per_seat_setting(0.1, least=0, below=1)
    # text positions start at `length`: the published code passes the prefix as past keys (code)
    shift: bool = True
    # width of the re-parameterising network; 0 is a plain table (code: 512 for BERT on WiC, else none)
    mlp: int = setting(0, least=0)
    # layers below it are left alone, and shared with other adapters of one text (own choice)
    first_layer: int = setting(0, least=0)


class Ptuning(Cue, method="ptuning", config=PtuningConfig):
    """Learnt keys and values in every layer: K = [prefix; K], V = [prefix; V]."""

    dropout: Tensor

    def __init__(self, dims: Dims, config: PtuningConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        self.shift = config.length if config.shift else 0
        self.heads = dims.heads
        self.first_layer = config.first_layer
        length, layers, hidden = config.length, layers_from(config.first_layer, dims), dims.hidden

        def normal(*shape: int) -> nn.Parameter:
            # The published code sets no std itself; Hugging Face's initialiser uses 0.02.
            return nn.Parameter(torch.empty(adapters, *shape).normal_(std=0.02))

        if config.mlp:
            self.words = normal(length, hidden)  # (A, P, D)
            self.inner = normal(hidden, config.mlp)  # (A, D, mlp)
            self.inner_bias = nn.Parameter(torch.zeros(adapters, config.mlp))
            self.outer = normal(layers, config.mlp, 2 * hidden)  # (A, L, mlp, 2 D)
            self.outer_bias = nn.Parameter(torch.zeros(adapters, layers, 2 * hidden))
        else:
            self.kv = normal(layers, 2, length, dims.heads, dims.head)  # (A, L, 2, P, H, K)

    @classmethod
    def count(cls, dims: Dims, config: PtuningConfig) -> int:
        """Return 2 L P D, or with the re-parameterisation P D + D m + m + m 2 L D + 2 L D.

        L counts from `first_layer`.
        """
        outputs = 2 * layers_from(config.first_layer, dims) * dims.hidden  # keys and values
        if not config.mlp:
            return config.length * outputs
        inner = dims.hidden * config.mlp + config.mlp
        outer = config.mlp * outputs + outputs
        return config.length * dims.hidden + inner + outer

    def first_touched(self, seat: int) -> int:
        """Return `first_layer`."""
        return self.first_layer

    def prefix(self, layer: int, hidden: Tensor, ctx: Context) -> Prefix | None:
        """Return the keys and values of `layer`, which do not depend on its input.

        (N, D) -> Prefix of (B, P, H, K).
        """
        if layer < self.first_layer:
            return None
        layer -= self.first_layer
        if self.config.mlp:
            kv = self.projected(layer, ctx)  # (B, 2, P, H, K)
        else:
            kv = copies(of_layer(self.kv, layer, ctx), ctx.batch, hidden.dtype)
        key, value = drop(kv, self.dropout, ctx.batch.seat, self.training).unbind(1)
        return Prefix(key, value)

    def projected(self, layer: int, ctx: Context) -> Tensor:
        """Return keys and values from the two-layer network: (B, 2, P, H, K).

        layer: counted from `first_layer`.

        The network's first half is computed once per forward pass, at the first layer.
        """
        seat, runs = ctx.batch.seat, ctx.batch.runs
        if ctx.memory is None:
            inner = per_seat(self.words[seat], self.inner, runs) + self.inner_bias[seat, None]
            ctx.memory = torch.tanh(inner)  # (B, P, mlp)
        outer = per_seat(ctx.memory, self.outer[:, layer], runs)
        both = outer + self.outer_bias[seat, layer, None]  # (B, P, 2 D)
        return both.unflatten(-1, (2, self.heads, -1)).transpose(1, 2)
