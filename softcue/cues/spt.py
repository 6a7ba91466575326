"""SPT, selective prefix tuning: each prefix token's score gates itself.

A loss keeps the prefix tokens apart. Zhang et al., 2024.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softcue.kernels.dropout import drop
from softcue.options import LONGEST_PREFIX, Options, per_seat_setting, setting
from softcue.protocol import Context, Cue, Dims, Prefix
from softcue.rows import copies, layers_from, of_layer


@dataclass(frozen=True)
class SptConfig(Options):
    """Published defaults; grades as in docs/methods/spt.md.

    The paper's alpha is `tau`, its lambda is `diversity`.
    """

    length: int = setting(16, least=1, below=LONGEST_PREFIX)  # prefix tokens (code: 8 to 128, by task)
    # scale of the gate's logit (code: 1 to 16, most often 8); 0 makes every gate 1/2, not P-tuning v2
    tau: float = per_seat_setting(8.0)
    diversity: float = per_seat_setting(1e-4, least=0)  # weight of the selective loss (code: 1e-4 to 1e-3)
    # dropout of the prefix's keys; its values have none (code)
    key_dropout: float = per_seat_setting(0.1, least=0, below=1)
    # dropout of the gate's logits: where one is dropped the gate is 1/2, not 0 (code)
    score_dropout: float = per_seat_setting(0.1, least=0, below=1)
    # layers below it are left alone, and shared with other adapters of one text (own choice)
    first_layer: int = setting(0, least=0)


class Spt(Cue, method="spt", config=SptConfig):
    """A prefix whose token j is weighted by exp(s_j) * sigmoid(tau * s_j).

    Text is weighted by exp(s), as usual. Text positions do not move, as in the published code.
    """

    tau: Tensor
    diversity: Tensor
    key_dropout: Tensor
    score_dropout: Tensor

    def __init__(self, dims: Dims, config: SptConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        self.first_layer = config.first_layer
        shape = adapters, layers_from(config.first_layer, dims), 2, config.length, dims.heads, dims.head
        self.kv = nn.Parameter(torch.empty(shape).normal_(std=0.02))  # (A, L, 2, P, H, K)

    @classmethod
    def count(cls, dims: Dims, config: SptConfig) -> int:
        """Return 2 L P D, where L counts from `first_layer`: the gate has no parameters of its own."""
        return 2 * layers_from(config.first_layer, dims) * config.length * dims.hidden

    def first_touched(self, seat: int) -> int:
        """Return `first_layer`."""
        return self.first_layer

    def prefix(self, layer: int, hidden: Tensor, ctx: Context) -> Prefix | None:
        """Return the keys and values of `layer`, and their gate.

        While training, the first layer also adds the selective loss of all layers.
        (N, D) -> Prefix of (B, P, H, K).
        """
        if layer < self.first_layer:
            return None
        seat, own = ctx.batch.seat, layer - self.first_layer
        alone = self.kv.shape[3] == 1  # a single prefix token has no other that it could resemble
        if own == 0 and self.training and not alone:
            ctx.losses.append(self.diversity[seat] * self.likeness().index_select(0, seat))
        key, value = copies(of_layer(self.kv, own, ctx), ctx.batch, hidden.dtype).unbind(1)
        gate: Callable[[Tensor, Tensor], Tensor] = partial(self.gate, seat)
        if ctx.watch is not None:
            ctx.watch("prefix_cosine", layer, self.cosines(self.kv[seat[0], own].float()))  # (2, P, P)
            gate = partial(_told, gate, partial(ctx.watch, "selection_gate", layer))
        return Prefix(drop(key, self.key_dropout, seat, self.training), value, gate)

    def gate(self, seat: Tensor, logit: Tensor, example: Tensor) -> Tensor:
        """Return log sigmoid(drop(tau * logit)) in float32: (b, H, t, P) -> (b, H, t, P).

        In half precision a small sigmoid is 0, and its logarithm minus infinity.
        (B,), (b, H, t, P), (b,) -> (b, H, t, P) float32.
        """
        seat = seat[example]
        scaled = self.tau[seat].view(-1, 1, 1, 1) * logit.float()
        return F.logsigmoid(drop(scaled, self.score_dropout, seat, self.training))

    def likeness(self) -> Tensor:
        """Return how alike the prefix tokens of each seat are: (A,).

        It is the mean |cosine| over all layers and pairs of tokens, of their keys and of their values.
        """
        return self.mean_cosine(self.kv)

    @staticmethod
    def mean_cosine(kv: Tensor) -> Tensor:
        """Return the mean |cosine| of prefix tokens, keys and values alike: (.., L, 2, P, H, K) -> (..)."""
        pairs = Spt.cosines(kv).triu(1).sum((-4, -3, -2, -1))
        layers, length = kv.shape[-5], kv.shape[-3]
        return pairs / (layers * length * (length - 1))

    @staticmethod
    def cosines(kv: Tensor) -> Tensor:
        """Return |cosine| of each two prefix tokens: (.., P, H, K) -> (.., P, P)."""
        table = kv.flatten(-2)  # (.., P, D)
        unit = table / (table.square().sum(-1, keepdim=True) + 1e-8).sqrt()
        return (unit @ unit.mT).abs()


def _told(
    gate: Callable[[Tensor, Tensor], Tensor],
    watch: Callable[[Tensor], None],
    logit: Tensor,
    example: Tensor,
) -> Tensor:
    """Return a gate's logarithm, and tell the gate itself: (b, H, t, P), padding's rows included."""
    added = gate(logit, example)
    watch(added.exp())
    return added
