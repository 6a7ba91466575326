"""APT, adaptive prefix tuning: P-tuning v2 with a gate on each prefix token and layer.

Zhang et al., 2023; the equations are unverified.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from softcue.batch import sent
from softcue.kernels.dropout import drop
from softcue.options import LONGEST_PREFIX, Options, per_seat_setting, setting
from softcue.protocol import Context, Cue, Dims, Prefix
from softcue.rows import copies, layers_from, of_layer, per_seat


@dataclass(frozen=True)
class AptConfig(Options):
    """Partly a reconstruction; grades as in docs/methods/apt.md."""

    length: int = setting(16, least=1, below=LONGEST_PREFIX)  # prefix tokens (as in P-tuning v2: unverified)
    # dropout of keys and values, before the gate, as in P-tuning v2 (inferred)
    dropout: float = per_seat_setting(0.1, least=0, below=1)
    # text positions start at `length`, as in the P-tuning v2 code that it is built on (inferred)
    shift: bool = True
    token_gate: bool = True  # the fine gate (fragment); False is an ablation
    layer_gate: bool = True  # the coarse scale (fragment); False is an ablation
    # the gate's input: first token (unverified), mean of tokens, or none (ablation)
    reads: Literal["first", "mean", "nothing"] = "first"
    bias: bool = True  # of the token gate (inferred: the paper does not say)
    # layers below it are left alone, and shared with other adapters of one text (own choice)
    first_layer: int = setting(0, least=0)

    def problems(self) -> list[str]:
        """Refuse a token gate that reads nothing and has no bias: it could not learn."""
        if self.token_gate and self.reads == "nothing" and not self.bias:
            return [
                "reads is 'nothing' and bias is False; expected a gate that can learn: set bias or "
                "token_gate=False"
            ]
        return []


class Apt(Cue, method="apt", config=AptConfig):
    """A prefix whose token j has [key; value] multiplied by scale[layer] * sigmoid(h W + b)[j].

    A gate of 0 does not remove a prefix token: its key is zero, and still takes exp(0) in the softmax.
    """

    dropout: Tensor
    grade = "partly a reconstruction"

    def __init__(self, dims: Dims, config: AptConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        self.shift = config.length if config.shift else 0
        self.first_layer = config.first_layer
        layers = layers_from(config.first_layer, dims)
        shape = adapters, layers, 2, config.length, dims.heads, dims.head
        self.kv = nn.Parameter(torch.empty(shape).normal_(std=0.02))  # (A, L, 2, P, H, K)
        if config.token_gate and config.reads != "nothing":
            gate = torch.empty(adapters, layers, dims.hidden, config.length)
            self.gate = nn.Parameter(gate.normal_(std=0.02))  # gates start near 1/2
        if config.token_gate and config.bias:
            self.gate_bias = nn.Parameter(torch.zeros(adapters, layers, config.length))
        if config.layer_gate:
            self.scale = nn.Parameter(torch.ones(adapters, layers))  # unknown in the paper; 1 is neutral

    @classmethod
    def count(cls, dims: Dims, config: AptConfig) -> int:
        """Return 2 L P D + L (D P + P + 1), less what is switched off.

        L counts from `first_layer`.
        """
        gate_inputs = dims.hidden if config.reads != "nothing" else 0
        gate = config.length * (gate_inputs + config.bias) if config.token_gate else 0
        return layers_from(config.first_layer, dims) * (
            2 * config.length * dims.hidden + gate + config.layer_gate
        )

    def first_touched(self, seat: int) -> int:
        """Return `first_layer`."""
        return self.first_layer

    def prefix(self, layer: int, hidden: Tensor, ctx: Context) -> Prefix | None:
        """Return the keys and values of `layer`, both multiplied by the same gate in all heads.

        (N, D) -> Prefix of (B, P, H, K).
        """
        if layer < self.first_layer:
            return None
        kv = copies(
            of_layer(self.kv, layer - self.first_layer, ctx), ctx.batch, hidden.dtype
        )  # (B, 2, P, H, K)
        kv = drop(kv, self.dropout, ctx.batch.seat, self.training)
        weight = self.weight(layer, hidden, ctx).to(kv.dtype)
        weight = weight[:, None, :, None, None]
        gated = kv * weight if torch.is_grad_enabled() else kv.mul_(weight)
        key, value = gated.unbind(1)
        return Prefix(key, value)

    def weight(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """Return what each example multiplies its prefix tokens by: (N, D) -> (B, P)."""
        seat = ctx.batch.seat
        weight = self.kv.new_ones(len(ctx.batch), self.kv.shape[3])
        if self.config.token_gate:
            weight = torch.sigmoid(self.logit(layer, hidden, ctx))
            if ctx.watch is not None:
                ctx.watch("token_gate", layer, weight)  # (B, P)
        if self.config.layer_gate:
            scale = self.scale[:, layer - self.first_layer].index_select(0, seat)
            if ctx.watch is not None:
                ctx.watch("layer_scale", layer, scale)  # (B,)
            weight = weight * scale[:, None]
        return weight

    def logit(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """Return the token gate before its sigmoid: (N, D) -> (B, P) float32."""
        seat, config = ctx.batch.seat, self.config
        layer -= self.first_layer
        logit = self.kv.new_zeros(len(ctx.batch), self.kv.shape[3])
        if config.reads != "nothing":
            summary = example_summary(hidden, ctx, config.reads)
            logit = per_seat(summary, self.gate[:, layer], ctx.batch.runs).float()
        if config.bias:
            logit = logit + self.gate_bias[:, layer].index_select(0, seat)
        return logit


def example_summary(hidden: Tensor, ctx: Context, reads: str) -> Tensor:
    """Return the first token of each example, or the mean of its tokens: (N, D) -> (B, D)."""
    batch = ctx.batch
    if reads == "first":
        return hidden.index_select(0, batch.special[:, 0])
    count = sent(torch.tensor(batch.lengths, dtype=hidden.dtype), hidden.device)
    total = hidden.new_zeros(len(batch), hidden.shape[1]).index_add(0, batch.owner, batch.take(hidden))
    return total / count[:, None]
