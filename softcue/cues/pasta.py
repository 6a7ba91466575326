"""PASTA: a vector added to each special token at the input of every layer (Yang, Huang, Zhou
and Chen, 2023).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softcue.batch import Batch, sent
from softcue.errors import SettingsError
from softcue.kernels.dropout import drop
from softcue.options import Options, per_seat_setting, setting
from softcue.protocol import Context, Cue, Dims, Facts
from softcue.rows import USUAL_SIZE, copies, layered, unit_of


@dataclass(frozen=True)
class PastaConfig(Options):
    """Published defaults; grades as in docs/methods/pasta.md."""

    # special tokens of an example; None: counted from the task (code: 2 single, 3 pair)
    slots: int | None = setting(None, least=1)
    # of the added vectors (code; the paper's figure does not show it)
    dropout: float = per_seat_setting(0.1, least=0, below=1)
    # merged: the two of RoBERTa's </s></s> share a vector (inferred)
    separators: Literal["each", "merged"] = "each"
    tokens: Literal["all", "cls", "sep"] = "all"  # which special tokens get vectors (ablation, unverified)
    shared: bool = False  # one vector for all special tokens of a layer (ablation, unverified)


class Pasta(Cue, method="pasta", config=PastaConfig):
    """h[s_j] += drop(delta[layer, j]) before each layer.

    The vector enters query, key, value and the residual.
    """

    dropout: Tensor

    def __init__(self, dims: Dims, config: PastaConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        vectors = vector_of_slot(config)
        self.slots = len(vectors)
        self.used = [slot for slot, vector in enumerate(vectors) if vector >= 0]
        self.vector = [vectors[slot] for slot in self.used]
        # std as left by the published code: the HF initialiser on weights that the checkpoint lacks
        # (A, L, V, D)
        self.delta = nn.Parameter(
            torch.empty(adapters, dims.layers, max(vectors) + 1, dims.hidden).normal_(std=0.02)
        )

    @classmethod
    def settle(cls, config: PastaConfig, facts: Facts) -> PastaConfig:
        """Fill in as many slots as the task's examples have; fewer that were asked for are refused."""
        if config.slots is not None and config.slots < len(facts.slots):
            raise SettingsError(
                f"PASTA: slots is {config.slots}; the task's examples have {len(facts.slots)} special "
                "tokens: leave slots out"
            )
        return config if config.slots is not None else replace(config, slots=len(facts.slots))

    @classmethod
    def count(cls, dims: Dims, config: PastaConfig) -> int:
        """Count V * L * D."""
        return (max(vector_of_slot(config)) + 1) * dims.layers * dims.hidden

    @classmethod
    def units(cls, config: PastaConfig, sizes: Callable[[], Tensor]) -> dict[str, Tensor]:
        """Measure a vector in the size of the rows that it is added to.

        One for several slots is measured in their mean.
        """
        size, vectors = sizes(), vector_of_slot(config)
        # more slots may have been asked for than the task has: those count for nothing
        size = F.pad(size, (0, len(vectors) - size.shape[1]), value=torch.nan)
        own = [
            [slot for slot, vector in enumerate(vectors) if vector == number]
            for number in range(max(vectors) + 1)
        ]
        means = torch.stack([size[:, slots].nanmean(1).nan_to_num(USUAL_SIZE) for slots in own], 1)
        return {"delta": unit_of(means).unsqueeze(-1)}  # (L, V, 1)

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """Add the layer's vectors to the special tokens: (N, D) -> (N, D)."""
        if layer == 0:
            ctx.memory = self.vectors(hidden, ctx.batch)
        row, delta = ctx.memory
        return hidden.index_add(0, row[0], delta[layer])

    def vectors(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return rows, and what each layer adds to them, as `layered` says.

        (N, D) -> (1, R), L times (R, D).
        """
        batch.check_special(self.slots, "PASTA")
        pairs = [(s, v) for s, v in zip(self.used, self.vector, strict=True) if s < batch.special.shape[1]]
        slot, vector = [s for s, _ in pairs], [v for _, v in pairs]
        delta = copies(self.delta, batch, hidden.dtype)
        if vector != list(range(delta.shape[2])):
            delta = delta.index_select(2, sent(torch.tensor(vector), delta.device))
        delta = drop(delta, self.dropout, batch.seat, self.training)  # (B, L, S, D)
        special = batch.special
        if slot != list(range(special.shape[1])):
            special = special.index_select(1, sent(torch.tensor(slot), special.device))
        return layered(delta, special.unsqueeze(1))


def vector_of_slot(config: PastaConfig) -> list[int]:
    """Return the vector that each slot adds, -1 for none.

    SettingsError where slots are not settled or none is left.
    """
    if config.slots is None:
        raise SettingsError(
            "PASTA: slots is not known yet; give slots (2 for single texts, 3 for pairs) or let training "
            "count them"
        )
    vectors = list(range(config.slots))
    if config.separators == "merged" and config.slots == 4:  # <s> A </s></s> B </s>
        vectors = [0, 1, 1, 2]
    if config.tokens == "cls":
        vectors = [0] + [-1] * (config.slots - 1)
    if config.tokens == "sep":
        vectors = [v - 1 for v in vectors]
    if config.shared:
        vectors = [min(v, 0) for v in vectors]
    if max(vectors) < 0:
        raise SettingsError(
            f"PASTA: tokens is 'sep', but slots is {config.slots}: the examples have no separators"
        )
    return vectors
