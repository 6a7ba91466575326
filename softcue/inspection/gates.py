"""Token gates and layer scales of prefixes, by layer, for one adapter or to compare several."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import torch

from softcue.adapter import Adapter
from softcue.files import JsonRecord
from softcue.inspection.subject import Grid, HowOpened, Row, Shown, Subject, by_layer, grid, open_subject
from softcue.readers import Data

OPEN = 0.99  # a gate above this counts as open
Beside = Sequence[tuple[str | Path | Adapter, str | Path | Data]]


@dataclass(frozen=True)
class GateTable(JsonRecord):
    """The gates of one adapter over its texts."""

    shown: Shown
    mean: Grid  # (L, P): mean of each prefix token's gate over texts
    deviation: Grid  # (L, P): standard deviation of each prefix token's gate over texts
    scale: Row | None  # (L,): factor on all gates of a layer; None: the adapter has none

    @property
    def by_layer(self) -> list[float]:
        """The mean over prefix tokens for each layer."""
        return [sum(row) / len(row) for row in self.mean]


@dataclass(frozen=True)
class GatesView(JsonRecord):
    """The gates of one or several adapters: in which layers each task uses its prefix."""

    adapters: tuple[GateTable, ...]

    def lines(self) -> list[str]:
        """Return the findings as lines of text."""
        told = []
        for own in self.adapters:
            mean = own.by_layer
            high, low = mean.index(max(mean)), mean.index(min(mean))
            gates, spread = torch.tensor(own.mean), torch.tensor(own.deviation).mean()
            opened = (gates > OPEN).float().mean()
            told.append(
                f"{own.shown.title}: gates are the widest in layer {high} ({mean[high]:.3f}), the narrowest "
                f"in layer {low} ({mean[low]:.3f}); {opened:.0%} are above {OPEN}; between texts they vary "
                f"by {spread:.4f}"
            )
        return told


def inspect_gates(
    adapter: str | Path | Adapter,
    data: str | Path | Data,
    *,
    beside: Beside = (),
    **how: Unpack[HowOpened],
) -> GatesView:
    """Measure the token gates and layer scales of an adapter, and of others to compare it with.

    beside: the other adapters and their data, as pairs. Other arguments: as for inspect_attention. Raises
    SoftcueError; RequestError if an adapter has no token gates.
    """
    pairs = [(adapter, data), *beside]
    return GatesView(tuple(gate_table(open_subject(one, its, **how)) for one, its in pairs))


def gate_table(subject: Subject) -> GateTable:
    """Measure one adapter's gates."""
    layers = subject.encoder.dims.layers
    found = subject.values({"token_gate": torch.Tensor.double, "layer_scale": torch.Tensor.double})
    gates = by_layer(found["token_gate"], layers)  # L times (B, P)
    scales = by_layer(found["layer_scale"], layers)  # L times (B,)
    if not gates:
        raise subject.refuse("token gates", "apt with token_gate on")
    told = torch.stack(gates)  # (L, B, P)
    return GateTable(
        shown=subject.shown,
        mean=grid(told.mean(1)),
        deviation=grid(told.std(1, correction=0)),
        scale=tuple(float(scale[0]) for scale in scales) or None,
    )
