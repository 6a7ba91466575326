"""What the methods' own parts decide: APT's gates, SPT's selection, GPC's cell, STP's plan."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from softcue.adapter import Adapter
from softcue.encoder.attention_mass import attention_mass
from softcue.errors import RequestError
from softcue.files import JsonRecord
from softcue.inspection.looking import by_layer, open_subject, watch
from softcue.readers import Data

Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class GateLook(JsonRecord):
    """Token gates and layer scales of a prefix (APT, partly a reconstruction)."""

    method: str
    data: str
    split: str
    rows: int
    gate: Table  # (L, P) mean over examples
    deviation: Table  # (L, P) over examples: 0 where the gate does not depend on the text
    scale: tuple[float, ...] | None  # by layer; None: the adapter has none


def inspect_gates(adapter: str | Path | Adapter, data: str | Path | Data, **how: Any) -> GateLook:
    """Return the token gates that an adapter's prefix gets, and its layer scales.

    how: as open_subject takes it. Raises SoftcueError.
    """
    subject = open_subject(adapter, data, **how)
    shown = watch(subject).shown
    gate = _stacked(by_layer(shown, "token gate", subject, "as apt"))  # (L, B, P)
    scale = None
    if "layer scale" in shown:
        scale = tuple(_stacked(by_layer(shown, "layer scale", subject, "as apt"))[:, 0, 0].tolist())
    return GateLook(
        **subject.told,  # type: ignore[arg-type]
        gate=_table(gate.mean(1)),
        deviation=_table(gate.std(1, correction=0)),
        scale=scale,
    )


@dataclass(frozen=True)
class SelectionLook(JsonRecord):
    """How much each prefix token is let in, and how alike the tokens are (SPT)."""

    method: str
    data: str
    split: str
    rows: int
    gate: Table  # (L, P) mean over heads, rows and examples
    likeness: tuple[float, ...]  # by layer: mean |cosine| of two tokens' keys
    pairs: tuple[Table, ...]  # (L, P, P) |cosine| of two tokens' keys


def inspect_selection(adapter: str | Path | Adapter, data: str | Path | Data, **how: Any) -> SelectionLook:
    """Return the gates of an adapter's prefix tokens, and how alike the tokens are.

    how: as open_subject takes it. Raises SoftcueError.
    """
    subject = open_subject(adapter, data, **how)
    watched = watch(subject)
    gate = _stacked(by_layer(watched.shown, "prefix gate", subject, "as spt")).mean(1)
    # all examples have the same keys: the gate is in their logits
    pairs = torch.stack([cosines(prefix.key[0]) for _, prefix in sorted(watched.prefixes.items())])
    length = pairs.shape[1]
    likeness = pairs.triu(1).sum((1, 2)) / max(1, length * (length - 1) // 2)
    return SelectionLook(
        **subject.told,  # type: ignore[arg-type]
        gate=_table(gate),
        likeness=tuple(likeness.tolist()),
        pairs=tuple(_table(layer) for layer in pairs),
    )


def cosines(key: Tensor) -> Tensor:
    """Return |cosine| of each two tokens, over all heads together: (P, H, K) -> (P, P)."""
    unit = F.normalize(key.float().flatten(1), dim=1)
    return (unit @ unit.T).abs()


@dataclass(frozen=True)
class CellLook(JsonRecord):
    """What the cell between layers remembers and takes (GPC, a reconstruction).

    Sizes are root mean squares over examples, prompts and width, for layers 1 to L - 1.
    """

    method: str
    data: str
    split: str
    rows: int
    remembered: tuple[float, ...]  # P W_r: what entered the layer below
    taken: tuple[float, ...]  # O W_f: what the layer below returned
    changed: tuple[float, ...]  # |O W_f - O| over |O|: 0 is the cell that passes the prompt through


def inspect_cell(adapter: str | Path | Adapter, data: str | Path | Data, **how: Any) -> CellLook:
    """Return how much of a prompt's past and of the layer's answer the cell lets through.

    how: as open_subject takes it. Raises SoftcueError.
    """
    subject = open_subject(adapter, data, **how)
    shown = watch(subject).shown
    parts = {name: by_layer(shown, name, subject, "as gpc") for name in ("remembered", "taken", "left")}
    layers = parts["left"]
    return CellLook(
        **subject.told,  # type: ignore[arg-type]
        remembered=tuple(root_mean_square(parts["remembered"][layer]) for layer in layers),
        taken=tuple(root_mean_square(parts["taken"][layer]) for layer in layers),
        changed=tuple(
            root_mean_square(parts["taken"][layer] - layers[layer]) / root_mean_square(layers[layer])
            for layer in layers
        ),
    )


def root_mean_square(values: Tensor) -> float:
    """Return the root of the mean square of all numbers: (..) -> a number."""
    return float(values.square().mean().sqrt())


@dataclass(frozen=True)
class PlanLook(JsonRecord):
    """Which layers prompt which special token, beside the attention on it (STP, a reconstruction)."""

    method: str
    data: str
    split: str
    rows: int
    slots: tuple[str, ...]  # roles of the special tokens, in reading order
    place: tuple[tuple[int, ...], ...]  # (L, S) number of the vector, -1 for none
    attention: Table  # (L, S) of the bare encoder on these rows


def inspect_plan(adapter: str | Path | Adapter, data: str | Path | Data, **how: Any) -> PlanLook:
    """Return an adapter's plan, and the bare encoder's attention on special tokens.

    how: as open_subject takes it. Raises SoftcueError.
    """
    subject = open_subject(adapter, data, **how)
    place = getattr(subject.adapter.config, "place", None)
    if place is None:
        raise RequestError(
            f"the adapter was trained with {subject.adapter.method}, which has no plan of layers; expected "
            "an adapter of a method that has one, as stp"
        )
    mass = attention_mass(subject.encoder, subject.examples, len(subject.slots))
    return PlanLook(**subject.told, slots=subject.slots, place=place, attention=_table(mass))  # type: ignore[arg-type]


def _stacked(layers: dict[int, Tensor]) -> Tensor:
    """Return the layers' values as one tensor: L times (B, P) -> (L, B, P)."""
    return torch.stack(list(layers.values()))


def _table(values: Tensor) -> Table:
    return tuple(tuple(row) for row in values.tolist())
