"""SPT, selective prefix tuning: each prefix token's score gates itself, and a loss keeps prefix
tokens apart (Zhang et al., 2024).
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softcue.kernels.dropout import drop
from softcue.options import LONGEST_PREFIX, Options, per_seat_setting, setting
from softcue.protocol import Context, Cue, Dims, Prefix
from softcue.rows import copies, of_layer


@dataclass(frozen=True)
class SptConfig(Options):
    """Published defaults; grades as in docs/methods/spt.md.

    The paper's alpha is `tau`, its lambda is `diversity`.
    """

    length: int = setting(16, least=1, below=LONGEST_PREFIX)  # prefix tokens (code: 8 to 128, by task)
    # scale of the gate's logit (code: 1 to 16, most often 8); 0 is a gate of 1/2, not P-tuning v2
    tau: float = per_seat_setting(8.0)
    diversity: float = per_seat_setting(1e-4, least=0)  # weight of the selective loss (code: 1e-4 to 1e-3)
    key_dropout: float = per_seat_setting(0.1, least=0, below=1)  # of prefix keys; values have none (code)
    # of gate logits: a dropped one is a gate of 1/2, not 0 (code)
    score_dropout: float = per_seat_setting(0.1, least=0, below=1)


class Spt(Cue, method="spt", config=SptConfig):
    """Prefix token j is weighted by exp(s_j) * sigmoid(tau * s_j), text by exp(s).

    Positions do not move, as in the published code.
    """

    tau: Tensor
    diversity: Tensor
    key_dropout: Tensor
    score_dropout: Tensor

    def __init__(self, dims: Dims, config: SptConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        shape = adapters, dims.layers, 2, config.length, dims.heads, dims.head
        self.kv = nn.Parameter(torch.empty(shape).normal_(std=0.02))  # (A, L, 2, P, H, K)

    @classmethod
    def count(cls, dims: Dims, config: SptConfig) -> int:
        """Count 2 L P D: the gate has no numbers of its own."""
        return 2 * dims.layers * config.length * dims.hidden

    def prefix(self, layer: int, hidden: Tensor, ctx: Context) -> Prefix:
        """Return keys, values and their gate: (N, D) -> Prefix.

        While training the first layer adds the selective loss of all layers.
        """
        seat = ctx.batch.seat
        if layer == 0 and self.training and self.kv.shape[3] > 1:  # one token has nobody to resemble
            ctx.losses.append(self.diversity[seat] * self.likeness().index_select(0, seat))
        key, value = copies(of_layer(self.kv, layer, ctx), ctx.batch, hidden.dtype).unbind(1)
        return Prefix(drop(key, self.key_dropout, seat, self.training), value, partial(self.gate, seat))

    def gate(self, seat: Tensor, logit: Tensor, example: Tensor) -> Tensor:
        """Return log sigmoid(drop(tau * logit)): (b, H, t, P) -> (b, H, t, P) float32.

        log(sigmoid) underflows to -inf in half precision.
        (B,), (b, H, t, P), (b,) -> (b, H, t, P) float32.
        """
        seat = seat[example]
        scaled = self.tau[seat].view(-1, 1, 1, 1) * logit.float()
        return F.logsigmoid(drop(scaled, self.score_dropout, seat, self.training))

    def likeness(self) -> Tensor:
        """Return the mean |cosine| of all pairs of prefix tokens: (A,).

        It is of the sum of both tables, and over layers.
        """
        table = self.kv.flatten(4)  # (A, L, 2, P, D)
        unit = table / (table.square().sum(-1, keepdim=True) + 1e-8).sqrt()
        pairs = (unit @ unit.mT).abs().triu(1).sum((1, 2, 3, 4))
        layers, length = self.kv.shape[1], self.kv.shape[3]
        return pairs / (layers * length * (length - 1))
