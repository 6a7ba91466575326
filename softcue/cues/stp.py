"""STP, special token prompts: PASTA's vectors in chosen layers only.

Yan et al., 2025; a reconstruction, for only the abstract is public.
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
from softcue.rows import layered, matrix_share, unit_of

# (L, S): the number of the vector that a layer adds to a slot, -1 for none
VectorTable = tuple[tuple[int, ...], ...]

# Attention mass on [CLS] and on both [SEP] in BERT-base-uncased, by layer (Clark et al., 2019; read off a
# figure, +-0.01)
CLARK_CLS = (0.06, 0.26, 0.24, 0.15, 0.02, 0.01, 0.01, 0.01, 0.01, 0.02, 0.03, 0.01)
CLARK_SEP = (0.03, 0.05, 0.07, 0.22, 0.49, 0.55, 0.54, 0.57, 0.57, 0.48, 0.06, 0.07)
# How many layers of 12 prompt [CLS], and how many prompt separators. This pair alone fits all shares of
# trained parameters that are published for BERT-base.
BUDGETS = (10, 3)
DOUBLED_BUDGETS = (12, 6)  # the same for RoBERTa-base


@dataclass(frozen=True)
class StpConfig(Options):
    """A reconstruction: every default is inferred; grades as in docs/methods/stp.md. Layers count from 0."""

    # measured: layers are ranked by attention on the task's own text
    # preset: they are ranked by Clark's curves
    # partition: each layer prompts [CLS] or separators, whichever it attends to more
    # explicit: as listed in cls_layers and sep_layers
    plan: Literal["measured", "preset", "partition", "explicit"] = "measured"
    cls_layers: tuple[int, ...] = ()  # layers that prompt [CLS]; given with plan="explicit", else found
    sep_layers: tuple[int, ...] = ()  # layers that prompt separators; likewise
    # how many layers prompt [CLS]; None: 10 of 12 (12 of 12 where separators are doubled)
    cls_budget: int | None = setting(None, least=0)
    sep_budget: int | None = setting(None, least=0)  # how many prompt separators; None: 3 of 12 (6 of 12)
    sep_shared: bool = False  # one vector for all separators of a layer
    # what the two separators of </s></s> get: a vector each, one for both, or none for the middle ones
    separators: Literal["all", "merge", "ends"] = "merge"
    dropout: float = per_seat_setting(0.1, least=0, below=1)  # of the added vectors, as in PASTA's code
    place: VectorTable = ()  # filled in from the task: the vector that each layer adds to each slot

    def problems(self) -> list[str]:
        """Refuse a plan that does not say which layers, and a place that skips vector numbers."""
        wrong = []
        if self.plan == "explicit" and not (self.cls_layers or self.sep_layers or self.place):
            wrong.append("plan is 'explicit'; expected cls_layers or sep_layers")
        if self.plan != "explicit" and not self.place and (self.cls_layers or self.sep_layers):
            wrong.append(
                f"plan is {self.plan!r}, which finds the layers itself; set plan='explicit' to give "
                "cls_layers and sep_layers"
            )
        if self.place and not is_vector_table(self.place):
            wrong.append(
                "place is not a table of vector numbers; expected rows of equal length with -1 or 0, 1, 2 "
                ".. without gaps"
            )
        return wrong


class Stp(Cue, method="stp", config=StpConfig):
    """A vector added to special tokens in chosen layers: h[s_j] += drop(delta[place[layer, j]])."""

    dropout: Tensor
    place: Tensor
    grade = "reconstruction"

    def __init__(self, dims: Dims, config: StpConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        if len(settled_table(config)) != dims.layers:
            raise SettingsError(
                f"STP: the plan is for {len(config.place)} layers; this encoder has {dims.layers}"
            )
        self.plans = [config.place] * adapters  # on the host, to skip layers that nobody prompts
        place = torch.tensor(config.place).repeat(adapters, 1, 1)  # (A, L, S)
        self.register_buffer("place", place, persistent=False)
        # The std of PASTA's published code; the paper's is unknown.
        delta = torch.empty(adapters, vectors(config.place), dims.hidden).normal_(std=0.02)
        self.delta = nn.Parameter(delta)  # (A, V, D)

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
        layers = facts.dims.layers
        cls_layers, sep_layers = chosen_layers(config, facts)
        wrong = sorted({layer for layer in (*cls_layers, *sep_layers) if not 0 <= layer < layers})
        if wrong:
            raise SettingsError(
                f"STP: layers {wrong} were asked for; this encoder has layers 0 to {layers - 1}"
            )
        place = number_vectors(cls_layers, sep_layers, groups(facts.slots, config), layers)
        if vectors(place) == 0:
            raise SettingsError("STP: the plan has no vectors; raise cls_budget or sep_budget")
        return replace(config, cls_layers=cls_layers, sep_layers=sep_layers, place=place)

    @classmethod
    def shape(cls, config: StpConfig) -> StpConfig:
        """Return a config that is the same for all plans with as many vectors, layers and slots.

        Their adapters can share a cue. In the config that is returned the vectors stand in the first places,
        wherever the plan has them.
        """
        if not config.place:
            # This comes before settle(), when a sweep asks which of its points may share a loop.
            return cast(StpConfig, super().shape(config))
        layers = len(config.place)
        slots = len(config.place[0])
        count = vectors(config.place)
        numbers = [number if number < count else -1 for number in range(layers * slots)]
        rows = tuple(tuple(numbers[layer * slots : (layer + 1) * slots]) for layer in range(layers))
        return StpConfig(plan="explicit", place=rows)

    @classmethod
    def count(cls, dims: Dims, config: StpConfig) -> int:
        """Return V * D.

        V counts one vector for each layer that prompts [CLS], and one for each separator in each layer that
        prompts separators.
        """
        return vectors(settled_table(config)) * dims.hidden

    @classmethod
    def rate_share(cls, dims: Dims) -> float:
        """Return a smaller share for an encoder with more layers or a greater width.

        On CoLA all-mpnet-base-v2 learns nothing with all of the preset's rate, and learns with a third of it.
        """
        return float(matrix_share(dims) ** 0.75)

    @classmethod
    def units(cls, config: StpConfig, sizes: Callable[[], Tensor]) -> dict[str, Tensor]:
        """Measure each vector in the size of the rows that it is added to, as PASTA does."""
        size = sizes()  # (L, S)
        place = torch.tensor(settled_table(config))  # (L, S)
        units = [unit_of(size[place == vector].mean()) for vector in range(vectors(config.place))]
        return {"delta": torch.stack(units).unsqueeze(-1)}  # (V, 1)

    def first_touched(self, seat: int) -> int:
        """Return the lowest layer that the plan of `seat` prompts."""
        return next(layer for layer, row in enumerate(self.plans[seat]) if max(row) >= 0)

    def configure(self, seat: int, config: StpConfig) -> None:
        """Set the plan and the per-seat settings of `seat`."""
        super().configure(seat, config)
        self.plans[seat] = config.place
        self.place[seat] = torch.tensor(config.place)

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """Return the input with this layer's vectors added: (N, D) -> (N, D)."""
        if ctx.memory is None:
            plans = {self.plans[seat] for seat, _, _ in ctx.batch.runs}
            prompted = [any(max(plan[i]) >= 0 for plan in plans) for i in range(self.place.shape[1])]
            row, delta = self.vectors(hidden, ctx.batch)
            ctx.memory = prompted, row, delta
        if ctx.watch is not None:
            ctx.watch("plan", layer, self.place[ctx.batch.seat[0], layer])  # (S,)
        prompted, row, delta = ctx.memory
        if not prompted[layer]:
            return hidden
        return hidden.index_add(0, row[layer], delta[layer])

    def vectors(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the rows of special tokens, and what each layer adds to them, in the form of `layered`.

        (N, D) -> (L, R), and L times (R, D).
        """
        slots = self.place.shape[2]
        batch.check_special(slots, "STP")
        special = batch.special[:, None, :slots]
        vector = self.place[batch.seat, :, : special.shape[2]]  # (B, L, S)
        number = batch.seat[:, None, None] * self.delta.shape[1] + vector.clamp(min=0)
        delta = self.delta.flatten(0, 1).index_select(0, number.flatten())
        delta = delta.view(*number.shape, -1)  # (B, L, S, D)
        delta = drop(delta, self.dropout, batch.seat, self.training).to(hidden.dtype)
        return layered(delta, special.masked_fill(vector < 0, -1))


def is_vector_table(place: VectorTable) -> bool:
    """Say whether the rows are equally long, and the vectors numbered from 0 without a gap."""
    lengths = {len(row) for row in place}
    used = {number for row in place for number in row} - {-1}
    return len(lengths) == 1 and len(used) > 0 and used == set(range(len(used)))


def settled_table(config: StpConfig) -> VectorTable:
    """Return the config's place, or raise RequestError if settle() was not called yet."""
    if not config.place:
        raise SettingsError(
            "STP: the plan is not known before training has seen the task; call Stp.settle first"
        )
    return config.place


def vectors(place: VectorTable) -> int:
    """Return how many vectors a place names."""
    return 1 + max(max(row) for row in place)


def chosen_layers(config: StpConfig, facts: Facts) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the layers that prompt [CLS], and the layers that prompt separators."""
    layers = facts.dims.layers
    if config.plan == "explicit":
        return config.cls_layers, config.sep_layers
    if config.plan == "preset":
        on_cls = stretch(CLARK_CLS, layers)
        on_sep = stretch(CLARK_SEP, layers)
    else:
        mass = facts.attention()  # (L, S)
        is_cls = torch.tensor([role == "cls" for role in facts.slots])
        on_cls = mass[:, is_cls].sum(1).tolist()
        on_sep = mass[:, ~is_cls].sum(1).tolist()
    if config.plan == "partition":
        prefers_cls = tuple(layer for layer in range(layers) if on_cls[layer] > on_sep[layer])
        prefers_sep = tuple(layer for layer in range(layers) if layer not in prefers_cls)
        return prefers_cls, prefers_sep
    doubled = facts.doubled or facts.slots.count("sep") > 2
    usual_cls, usual_sep = DOUBLED_BUDGETS if doubled else BUDGETS
    cls_budget = layer_budget(config.cls_budget, usual_cls, layers)
    sep_budget = layer_budget(config.sep_budget, usual_sep, layers)
    return highest(on_cls, cls_budget), highest(on_sep, sep_budget)


def layer_budget(asked: int | None, usual: int, layers: int) -> int:
    """Return how many of the layers are prompted: as many as asked, or the usual part of 12."""
    if asked is not None:
        return min(asked, layers)
    return max(1, round(usual * layers / 12))


def stretch(curve: Sequence[float], layers: int) -> list[float]:
    """Read a curve over 12 layers at the same relative depths of another number of layers."""
    values = []
    for layer in range(layers):
        depth = (layer + 0.5) * len(curve) / layers - 0.5  # in layers of the curve
        low = min(max(int(depth // 1), 0), len(curve) - 2)
        share = min(max(depth - low, 0.0), 1.0)
        values.append(curve[low] * (1 - share) + curve[low + 1] * share)
    return values


def highest(mass: Sequence[float], count: int) -> tuple[int, ...]:
    """Return the `count` layers of the largest mass, in ascending order; of equals, the lower."""
    ranked = sorted(range(len(mass)), key=lambda layer: -mass[layer])  # stable: equals stay in order
    return tuple(sorted(ranked[:count]))


def groups(roles: Sequence[str], config: StpConfig) -> list[int]:
    """Return, for each slot, which of a layer's separator vectors it takes: -1 is none, -2 is [CLS]."""
    separators = sum(role == "sep" for role in roles)
    numbers = list(range(separators))  # of the separators, in reading order
    if config.separators == "merge" and separators == 3:  # <s> A </s></s> B </s>
        numbers = [0, 0, 1]
    if config.separators == "ends" and separators > 2:
        numbers = [0, *[-1] * (separators - 2), 1]
    if config.sep_shared:
        numbers = [min(number, 0) for number in numbers]
    following = iter(numbers)
    return [-2 if role == "cls" else next(following) for role in roles]


def number_vectors(
    cls_layers: Sequence[int], sep_layers: Sequence[int], slots: Sequence[int], layers: int
) -> VectorTable:
    """Number the vectors in the order of layers, [CLS] first within each.

    slots: what `groups` returned.
    """
    on_cls = [-2] if -2 in slots else []
    on_sep = sorted(set(slots) - {-1, -2})
    place = []
    count = 0
    for layer in range(layers):
        present = []
        if layer in cls_layers:
            present += on_cls
        if layer in sep_layers:
            present += on_sep
        vector = {group: count + i for i, group in enumerate(present)}
        count += len(present)
        place.append(tuple(vector.get(group, -1) for group in slots))
    return tuple(place)
