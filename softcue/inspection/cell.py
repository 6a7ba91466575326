"""The prompt cell: how much each layer's prompt keeps, and how much comes from the layer below."""

from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor

from softcue.adapter import Adapter
from softcue.files import JsonRecord
from softcue.inspection.subject import HowOpened, Row, Shown, Subject, by_layer, open_subject
from softcue.readers import Data


@dataclass(frozen=True)
class CellView(JsonRecord):
    """The two parts of P' = F(P W_r + O W_f) at the input of each layer."""

    shown: Shown
    layers: tuple[int, ...]  # the layers that have a cell in front of them
    remembered: Row  # mean length of P W_r over prompt vectors and texts
    renewed: Row  # mean length of O W_f over prompt vectors and texts
    share: Row  # mean of |P W_r| / (|P W_r| + |O W_f|)
    # distance of W_r from zero and of W_f from the identity, in Frobenius norms of the identity; None: the
    # cell began with random values
    remember_moved: Row | None
    forget_moved: Row | None

    def lines(self) -> list[str]:
        """Return the findings as lines of text."""
        most = self.share.index(max(self.share))
        told = [
            f"{self.shown.title}: what is remembered is {sum(self.share) / len(self.share):.1%} of what "
            f"enters a layer on average, the most in layer {self.layers[most]} ({self.share[most]:.1%})"
        ]
        if self.remember_moved and self.forget_moved:
            told.append(
                f"the matrices moved by up to {max(self.remember_moved):.3f} (remember, from zero) and "
                f"{max(self.forget_moved):.3f} (forget, from the identity) of the identity's norm"
            )
        return told


def inspect_cell(
    adapter: str | Path | Adapter, data: str | Path | Data, **how: Unpack[HowOpened]
) -> CellView:
    """Measure how much an adapter's prompt cell keeps, and how much it takes from the layer below.

    Other arguments: as for inspect_attention. Raises SoftcueError; RequestError if the adapter has no cell.
    """
    return cell_view(open_subject(adapter, data, **how))


def cell_view(subject: Subject) -> CellView:
    """Measure what `inspect_cell` returns."""
    layers = subject.encoder.dims.layers
    found = subject.values({"remembered": _lengths, "renewed": _lengths, "moved": lambda values: values})
    entered = sorted({layer for layer, _ in found["remembered"]})
    if not entered:
        raise subject.refuse("cell", "gpc")
    # (cells, B, P), a row for each layer that a cell stands in front of
    remembered = torch.stack(by_layer(found["remembered"], layers))
    renewed = torch.stack(by_layer(found["renewed"], layers))
    moved = dict(found["moved"])
    return CellView(
        shown=subject.shown,
        layers=tuple(entered),
        remembered=_row(remembered),
        renewed=_row(renewed),
        share=_row(remembered / (remembered + renewed).clamp(min=1e-12)),
        remember_moved=tuple(float(moved[layer][0]) for layer in entered) if moved else None,
        forget_moved=tuple(float(moved[layer][1]) for layer in entered) if moved else None,
    )


def _lengths(vectors: Tensor) -> Tensor:
    """Return lengths of prompt vectors: (B, P, D) -> (B, P)."""
    return vectors.double().norm(dim=-1)


def _row(table: Tensor) -> Row:
    return tuple(table.mean((1, 2)).tolist())
