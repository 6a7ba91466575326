"""STP, special token prompts: PASTA's vectors in chosen layers only (Yan et al., 2025; a
reconstruction, only the abstract is public).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

from softcue.batch import Batch
from softcue.errors import SettingsError
from softcue.kernels.dropout import drop
from softcue.options import Options, per_seat_setting, setting
from softcue.protocol import Context, Cue, Dims, Facts
from softcue.rows import layered, unit_of

VectorTable = tuple[
    tuple[int, ...], ...
]  # (L, S) number of the vector that a layer adds to a slot, -1 for none

# Attention mass on [CLS] and on both [SEP] in BERT-base-uncased, by layer (Clark et al., 2019; read off a
# figure, +-0.01)
CLARK_CLS = (0.06, 0.26, 0.24, 0.15, 0.02, 0.01, 0.01, 0.01, 0.01, 0.02, 0.03, 0.01)
CLARK_SEP = (0.03, 0.05, 0.07, 0.22, 0.49, 0.55, 0.54, 0.57, 0.57, 0.48, 0.06, 0.07)
# layers of 12 that prompt [CLS], and separators: the pair that fits all published shares of BERT-base
BUDGETS = (10, 3)
DOUBLED_BUDGETS = (12, 6)  # the same for RoBERTa-base


@dataclass(frozen=True)
class StpConfig(Options):
    """A reconstruction: every default is inferred; grades as in docs/methods/stp.md. Layers count from 0."""

    plan: Literal["measured", "preset", "partition", "explicit"] = "measured"
    # layers ranked by attention on the task's own text; by Clark's curves; each layer to what it attends to
    # more; or as listed below
    cls_layers: tuple[int, ...] = ()  # layers that prompt [CLS]; given with plan="explicit", else found
    sep_layers: tuple[int, ...] = ()  # layers that prompt separators; likewise
    # how many layers prompt [CLS]; None: 10 of 12 (12 of 12 where separators are doubled)
    cls_budget: int | None = setting(None, least=0)
    sep_budget: int | None = setting(None, least=0)  # how many prompt separators; None: 3 of 12 (6 of 12)
    sep_shared: bool = False  # one vector for all separators of a layer
    # of </s></s>: a vector each, one for both, or none for the middle ones
    separators: Literal["all", "merge", "ends"] = "merge"
    dropout: float = per_seat_setting(0.0, least=0, below=1)  # of the added vectors (PASTA: 0.1)
    place: VectorTable = ()  # filled in from the task: the vector that each layer adds to each slot

    def problems(self) -> list[str]:
        """Refuse a plan that does not say where, and a place whose vectors are numbered with gaps."""
        wrong = []
        if self.plan == "explicit" and not (self.cls_layers or self.sep_layers or self.place):
            wrong.append("plan is 'explicit'; expected cls_layers or sep_layers")
        if self.plan != "explicit" and not self.place and (self.cls_layers or self.sep_layers):
            wrong.append(
                f"plan is {self.plan!r}, which finds the layers itself; set plan='explicit' to give "
                "cls_layers and sep_layers"
            )
        used = {number for row in self.place for number in row} - {-1}
        if self.place and (
            len({len(row) for row in self.place}) != 1 or used != set(range(len(used))) or not used
        ):
            wrong.append(
                "place is not a table of vector numbers; expected rows of equal length with -1 or 0, 1, 2 "
                ".. without gaps"
            )
        return wrong


class Stp(Cue, method="stp", config=StpConfig):
    """h[s_j] += drop(delta[place[layer, j]]) before each layer that the plan chose."""

    dropout: Tensor
    place: Tensor

    def __init__(self, dims: Dims, config: StpConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        if len(settled_table(config)) != dims.layers:
            raise SettingsError(
                f"STP: the plan is for {len(config.place)} layers; this encoder has {dims.layers}"
            )
        self.plans = [config.place] * adapters  # on the host, to skip layers that nobody prompts
        # (A, L, S)
        self.register_buffer("place", torch.tensor(config.place).repeat(adapters, 1, 1), persistent=False)
        # std as in PASTA's published code; the paper's is unknown (A, V, D)
        self.delta = nn.Parameter(torch.empty(adapters, vectors(config.place), dims.hidden).normal_(std=0.02))

    @classmethod
    def settle(cls, config: StpConfig, facts: Facts) -> StpConfig:
        """Choose the layers and number the vectors, once, for one encoder and task."""
        if config.place:
            layers, slots = len(config.place), len(config.place[0])
            if (layers, slots) != (facts.dims.layers, len(facts.slots)):
                raise SettingsError(
                    f"STP: place has {layers} layers of {slots} special tokens; expected "
                    f"{facts.dims.layers} of {len(facts.slots)}, as this encoder and task have"
                )
            return config
        cls_layers, sep_layers = chosen_layers(config, facts)
        wrong = sorted({layer for layer in (*cls_layers, *sep_layers) if not 0 <= layer < facts.dims.layers})
        if wrong:
            raise SettingsError(
                f"STP: layers {wrong} were asked for; this encoder has layers 0 to {facts.dims.layers - 1}"
            )
        place = number_vectors(cls_layers, sep_layers, groups(facts.slots, config), facts.dims.layers)
        if vectors(place) == 0:
            raise SettingsError("STP: the plan has no vectors; raise cls_budget or sep_budget")
        return replace(config, cls_layers=cls_layers, sep_layers=sep_layers, place=place)

    @classmethod
    def shape(cls, config: StpConfig) -> StpConfig:
        """Return what plans with as many vectors, layers and slots share.

        Their vectors stand in the first places, whatever the plan.
        """
        if not config.place:
            # before settle(): a sweep asks what may share a loop
            return cast(StpConfig, super().shape(config))
        layers, slots, count = len(settled_table(config)), len(config.place[0]), vectors(config.place)
        numbers = [n if n < count else -1 for n in range(layers * slots)]
        rows = tuple(tuple(numbers[i * slots : (i + 1) * slots]) for i in range(layers))
        return StpConfig(plan="explicit", place=rows)

    @classmethod
    def count(cls, dims: Dims, config: StpConfig) -> int:
        """Count V * D.

        There is a vector for each layer that prompts [CLS], and for each separator of each layer that prompts
        separators.
        """
        return vectors(settled_table(config)) * dims.hidden

    @classmethod
    def units(cls, config: StpConfig, sizes: Callable[[], Tensor]) -> dict[str, Tensor]:
        """Measure a vector in the size of the rows that it is added to, as PASTA does."""
        size, place = sizes(), torch.tensor(settled_table(config))
        return {
            "delta": torch.stack(
                [unit_of(size[place == vector].mean()) for vector in range(vectors(config.place))]
            ).unsqueeze(-1)
        }

    def configure(self, seat: int, config: StpConfig) -> None:
        """Set the plan and the per-seat settings of `seat`."""
        super().configure(seat, config)
        self.plans[seat] = config.place
        self.place[seat] = torch.tensor(config.place)

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """Add the layer's vectors to the special tokens that the plan chose: (N, D) -> (N, D)."""
        if layer == 0:
            plans = {self.plans[seat] for seat, _, _ in ctx.batch.runs}
            prompted = [any(max(plan[i]) >= 0 for plan in plans) for i in range(self.place.shape[1])]
            ctx.memory = prompted, *self.vectors(hidden, ctx.batch)
        prompted, row, delta = ctx.memory
        return hidden.index_add(0, row[layer], delta[layer]) if prompted[layer] else hidden

    def vectors(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return rows, and what each layer adds to them, as `layered` says.

        (N, D) -> (L, R), L times (R, D).
        """
        slots = self.place.shape[2]
        batch.check_special(slots, "STP")
        special = batch.special[:, None, :slots]
        vector = self.place[batch.seat, :, : special.shape[2]]  # (B, L, S)
        number = batch.seat[:, None, None] * self.delta.shape[1] + vector.clamp(min=0)
        # (B, L, S, D)
        delta = self.delta.flatten(0, 1).index_select(0, number.flatten()).view(*number.shape, -1)
        delta = drop(delta, self.dropout, batch.seat, self.training).to(hidden.dtype)
        return layered(delta, special.masked_fill(vector < 0, -1))


def settled_table(config: StpConfig) -> VectorTable:
    """Return the config's place; SettingsError before settle()."""
    if not config.place:
        raise SettingsError(
            "STP: the plan is not known before training has seen the task; call Stp.settle first"
        )
    return config.place


def vectors(place: VectorTable) -> int:
    """Count the vectors that a place names."""
    return 1 + max(max(row) for row in place)


def chosen_layers(config: StpConfig, facts: Facts) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the layers that prompt [CLS], and those that prompt separators."""
    layers = facts.dims.layers
    if config.plan == "explicit":
        return config.cls_layers, config.sep_layers
    if config.plan == "preset":
        on_cls, on_sep = stretch(CLARK_CLS, layers), stretch(CLARK_SEP, layers)
    else:
        mass = facts.attention()
        is_cls = torch.tensor([role == "cls" for role in facts.slots])
        on_cls, on_sep = mass[:, is_cls].sum(1).tolist(), mass[:, ~is_cls].sum(1).tolist()
    if config.plan == "partition":
        to_cls = tuple(layer for layer in range(layers) if on_cls[layer] > on_sep[layer])
        return to_cls, tuple(layer for layer in range(layers) if layer not in to_cls)
    usual = DOUBLED_BUDGETS if facts.doubled or facts.slots.count("sep") > 2 else BUDGETS
    asked = config.cls_budget, config.sep_budget
    budgets = [
        max(1, round(u * layers / 12)) if a is None else min(a, layers)
        for a, u in zip(asked, usual, strict=True)
    ]
    return highest(on_cls, budgets[0]), highest(on_sep, budgets[1])


def stretch(curve: Sequence[float], layers: int) -> list[float]:
    """Read a curve over 12 layers at the same relative depths of another number of layers."""
    depths = [(layer + 0.5) * len(curve) / layers - 0.5 for layer in range(layers)]
    lows = [min(max(int(depth // 1), 0), len(curve) - 2) for depth in depths]
    shares = [min(max(depth - low, 0.0), 1.0) for depth, low in zip(depths, lows, strict=True)]
    return [
        curve[low] * (1 - share) + curve[low + 1] * share for low, share in zip(lows, shares, strict=True)
    ]


def highest(mass: Sequence[float], count: int) -> tuple[int, ...]:
    """Return the `count` layers of the largest mass in ascending order; of equals, the lower."""
    return tuple(sorted(sorted(range(len(mass)), key=lambda layer: -mass[layer])[:count]))


def groups(roles: Sequence[str], config: StpConfig) -> list[int]:
    """Return for each slot -2 for [CLS], else which separator vector it takes, -1 for none."""
    separators = [slot for slot, role in enumerate(roles) if role == "sep"]
    number = dict(zip(separators, range(len(separators)), strict=True))
    if config.separators == "merge" and len(separators) == 3:  # <s> A </s></s> B </s>
        number = dict(zip(separators, (0, 0, 1), strict=True))
    if config.separators == "ends" and len(separators) > 2:
        number = {**dict.fromkeys(separators, -1), separators[0]: 0, separators[-1]: 1}
    if config.sep_shared:
        number = {slot: min(n, 0) for slot, n in number.items()}
    return [-2 if role == "cls" else number[slot] for slot, role in enumerate(roles)]


def number_vectors(
    cls_layers: Sequence[int], sep_layers: Sequence[int], slots: Sequence[int], layers: int
) -> VectorTable:
    """Number the vectors in the order of layers, [CLS] first within each."""
    place, count = [], 0
    for layer in range(layers):
        present = [
            group for group in sorted({*slots} - {-1}) if layer in (cls_layers if group == -2 else sep_layers)
        ]
        vector = {group: count + i for i, group in enumerate(present)}
        count += len(present)
        place.append(tuple(vector.get(group, -1) for group in slots))
    return tuple(place)
