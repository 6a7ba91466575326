"""PASTA: a vector added to each special token at the input of every layer.

Yang, Huang, Zhou and Chen, 2023.
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
from softcue.rows import USUAL_SIZE, copies, layered, layers_from, unit_of


@dataclass(frozen=True)
class PastaConfig(Options):
    """Published defaults; grades as in docs/methods/pasta.md."""

    # special tokens of an example; None: counted from the task (code: 2 single, 3 pair)
    slots: int | None = setting(None, least=1)
    # dropout of the added vectors (code; the paper's figure does not show it)
    dropout: float = per_seat_setting(0.1, least=0, below=1)
    # merged: the two of RoBERTa's </s></s> share a vector (inferred)
    separators: Literal["each", "merged"] = "each"
    tokens: Literal["all", "cls", "sep"] = "all"  # which special tokens get vectors (ablation, unverified)
    shared: bool = False  # one vector for all special tokens of a layer (ablation, unverified)
    # layers below it are left alone, and shared with other adapters of one text (own choice)
    first_layer: int = setting(0, least=0)


class Pasta(Cue, method="pasta", config=PastaConfig):
    """A vector added to each special token before each layer: h[s_j] += drop(delta[layer, j]).

    The vector enters query, key, value and the residual.
    """

    dropout: Tensor

    def __init__(self, dims: Dims, config: PastaConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        vectors = vector_of_slot(config)
        self.slots = len(vectors)
        self.used = [slot for slot, vector in enumerate(vectors) if vector >= 0]
        self.vector = [vectors[slot] for slot in self.used]
        # The published code sets no std itself. The checkpoint lacks these weights, and Hugging Face's
        # initialiser draws such weights with 0.02.
        self.first_layer = config.first_layer
        layers = layers_from(config.first_layer, dims)
        delta = torch.empty(adapters, layers, max(vectors) + 1, dims.hidden).normal_(std=0.02)
        self.delta = nn.Parameter(delta)  # (A, L, V, D)

    @classmethod
    def settle(cls, config: PastaConfig, facts: Facts) -> PastaConfig:
        """Fill in as many slots as the task's examples have.

        Raises RequestError if fewer were asked for.
        """
        if config.slots is None:
            return replace(config, slots=len(facts.slots))
        if config.slots < len(facts.slots):
            raise SettingsError(
                f"PASTA: slots is {config.slots}; the task's examples have {len(facts.slots)} special "
                "tokens: leave slots out"
            )
        return config

    @classmethod
    def count(cls, dims: Dims, config: PastaConfig) -> int:
        """Return V * L * D, where L counts from `first_layer`."""
        layers = layers_from(config.first_layer, dims)
        return (max(vector_of_slot(config)) + 1) * layers * dims.hidden

    @classmethod
    def units(cls, config: PastaConfig, sizes: Callable[[], Tensor]) -> dict[str, Tensor]:
        """Measure each vector in the size of the rows that it is added to.

        A vector that several slots share is measured in the mean of their sizes.
        """
        size, vectors = sizes()[config.first_layer :], vector_of_slot(config)
        # Slots beyond those of the task may have been asked for: their rows have no measured size.
        size = F.pad(size, (0, len(vectors) - size.shape[1]), value=torch.nan)
        units = []
        for number in range(max(vectors) + 1):
            slots = [slot for slot, vector in enumerate(vectors) if vector == number]
            units.append(unit_of(size[:, slots].nanmean(1).nan_to_num(USUAL_SIZE)))
        return {"delta": torch.stack(units, 1).unsqueeze(-1)}  # (L, V, 1)

    def first_touched(self, seat: int) -> int:
        """Return `first_layer`."""
        return self.first_layer

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """Return the input with this layer's vectors added: (N, D) -> (N, D)."""
        if layer < self.first_layer:
            return hidden
        if ctx.memory is None:
            ctx.memory = self.vectors(hidden, ctx.batch)
        row, delta = ctx.memory
        return hidden.index_add(0, row[0], delta[layer - self.first_layer])

    def vectors(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the rows of special tokens, and what each layer adds to them, in the form of `layered`.

        (N, D) -> (1, R), and L times (R, D).
        """
        batch.check_special(self.slots, "PASTA")
        # An example may have fewer special tokens than the config has slots.
        present = [i for i, slot in enumerate(self.used) if slot < batch.special.shape[1]]
        slot = [self.used[i] for i in present]
        vector = [self.vector[i] for i in present]
        delta = copies(self.delta, batch, hidden.dtype)
        if vector != list(range(delta.shape[2])):
            delta = delta.index_select(2, sent(torch.tensor(vector), delta.device))
        delta = drop(delta, self.dropout, batch.seat, self.training)  # (B, L, S, D)
        special = batch.special
        if slot != list(range(special.shape[1])):
            special = special.index_select(1, sent(torch.tensor(slot), special.device))
        return layered(delta, special.unsqueeze(1))


def vector_of_slot(config: PastaConfig) -> list[int]:
    """Return the number of the vector that each slot adds, -1 for none.

    Raises RequestError if the number of slots is not known yet, or if no slot adds a vector.
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
