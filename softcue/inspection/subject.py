"""What is looked at: one adapter over its encoder, and the examples that it is shown."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from softcue.adapter import OWN_ENCODER, Adapter
from softcue.answering.evaluation import ROW_BUDGET, batches, pack_items
from softcue.answering.opening import open_for, open_predictor
from softcue.answering.served import reading_of
from softcue.attention.layout import AttentionObserver
from softcue.base import Base
from softcue.batch import Batch, Example, pack
from softcue.cues import Cue
from softcue.encoder.core import Encoder
from softcue.errors import RequestError
from softcue.files import JsonRecord
from softcue.kinds import KINDS
from softcue.kinds.base import READS_CHOICES
from softcue.model import Model
from softcue.options import check_whole
from softcue.protocol import CueObserver
from softcue.readers.columns import Said
from softcue.readers.items import Item, make_items

ROWS = 256  # rows of a data set that are looked at, unless more are asked for
MOST_ROWS = 2**31
WHERE = ("test", "dev")  # the split that is looked at: the first of these that is there
DRAW_SEED = 0  # of the draw where a split has more rows

Row = tuple[float, ...]
Grid = tuple[Row, ...]  # numbers by layer and one more axis


class HowOpened(TypedDict, total=False):
    """What every view takes besides the adapter and the data."""

    split: str | None  # default: the first of WHERE that is there
    rows: int  # at most so many rows of it, drawn by a fixed seed
    backbone: str | Base | None  # default: the one that the adapter names
    root: str | Path | None  # of data sets that are given by name
    columns: Said | None
    encoding: str | None
    precision: str
    device: str


@dataclass(frozen=True)
class Shown(JsonRecord):
    """Which adapter was looked at, and on what."""

    adapter: str
    method: str
    grade: str  # "reconstruction", say; empty for a faithful copy
    data: str
    split: str
    texts: int  # examples: a question has one for each choice

    @property
    def title(self) -> str:
        """Its name in a picture."""
        grade = f" ({self.grade})" if self.grade else ""
        return f"{self.method.upper()}{grade} on {self.data}, {self.texts} texts of {self.split}"


@dataclass(frozen=True)
class Subject:
    """An adapter, seated alone over its encoder, and items of its kind."""

    shown: Shown
    adapter: Adapter
    model: Model
    items: Sequence[Item]
    slots: tuple[str, ...]  # what the special tokens are called, in reading order

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder."""
        return self.model.encoder

    @property
    def examples(self) -> list[Example]:
        """The items' examples."""
        return [example for item in self.items for example in item.examples]

    def batches(self) -> Iterator[Batch]:
        """Yield the examples with the rows and positions that the adapter asks for."""
        for numbers in batches(self.items, ROW_BUDGET):
            yield pack_items(self.model, [self.items[i] for i in numbers], [0] * len(numbers))

    def bare_batches(self) -> Iterator[Batch]:
        """Yield the same examples as the bare encoder reads them."""
        for numbers in batches(self.items, ROW_BUDGET):
            examples = [example for i in numbers for example in self.items[i].examples]
            yield pack(examples, device=self.model.device)

    @torch.inference_mode()
    def look(self, batch: Batch, watch: AttentionObserver | None, watch_cue: CueObserver | None) -> None:
        """Run one batch through the encoder with the adapter."""
        self.encoder(batch, self.model.mixture, watch, watch_cue=watch_cue)

    def values(self, wanted: Mapping[str, Callable[[Tensor], Tensor]]) -> dict[str, list[tuple[int, Tensor]]]:
        """Collect what the method tells of over all examples: (layer, what was made of the values) each.

        wanted: name -> what is kept of the values.
        """
        found: dict[str, list[tuple[int, Tensor]]] = {name: [] for name in wanted}

        def keep(name: str, layer: int, values: Tensor) -> None:
            if name in found:
                found[name].append((layer, wanted[name](values).cpu()))

        for batch in self.batches():
            self.look(batch, None, keep)
        return found

    def refuse(self, wanted: str, who: str) -> RequestError:
        """Return the error for an adapter that has nothing of what a view shows."""
        return RequestError(
            f"{self.shown.adapter} is an adapter of {self.adapter.method} and has no {wanted}; expected one "
            f"of {who}: train one (softcue train --method ..), or look at its attention instead"
        )


def open_subject(
    adapter: str | Path | Adapter,
    data: Any,
    *,
    split: str | None = None,
    rows: int = ROWS,
    backbone: str | Base | None = None,
    root: str | Path | None = None,
    columns: Said | None = None,
    encoding: str | None = None,
    precision: str = "auto",
    device: str = "cpu",
    draw: bool = True,
) -> Subject:
    """Open an adapter and the examples that it is shown. Raises SoftcueError.

    draw: a seeded draw where there are more rows; else the first.
    """
    rows = check_whole("rows", rows, 1, MOST_ROWS)
    predictor, name = open_predictor(adapter, backbone, precision, device)
    own, base = predictor.adapters[name], predictor.base
    if own.backbone == OWN_ENCODER:
        raise RequestError(
            f"{name} is a fine-tuned checkpoint, which has no frozen encoder to compare with; expected an "
            "adapter: train one with another method than full"
        )
    opened = open_for(own, data, WHERE if split is None else (split,), columns, root, encoding)
    split = next(one for one in (WHERE if split is None else (split,)) if one in opened.splits)
    records = opened.splits[split]
    if len(records) > rows:
        chosen = sorted(random.Random(DRAW_SEED).sample(range(len(records)), rows)) if draw else range(rows)
        records = [records[i] for i in chosen]
    items = make_items(records, base.text, reading_of(own))
    grade = Cue.registry[own.method].grade
    texts = sum(len(item.encoded) for item in items)
    shown = Shown(name, own.method, grade, opened.name, split, texts)
    return Subject(
        shown=shown,
        adapter=own,
        model=predictor.model,
        items=items,
        slots=slot_names(base.text.slots(own.pair or KINDS[own.kind].reads == READS_CHOICES)),
    )


def slot_names(roles: Sequence[str]) -> tuple[str, ...]:
    """Return what special tokens are called: ("[CLS]", "[SEP] 1", "[SEP] 2") for a pair."""
    names = []
    for place, role in enumerate(roles):
        number = roles[: place + 1].count(role)
        names.append(f"[{role.upper()}]" + (f" {number}" if roles.count(role) > 1 else ""))
    return tuple(names)


def grid(table: Tensor) -> Grid:
    """Return a table of two axes as plain numbers: (L, S) -> rows."""
    return tuple(tuple(float(value) for value in row) for row in table.tolist())


def by_layer(found: Sequence[tuple[int, Tensor]], layers: int) -> list[Tensor]:
    """Join the values of each layer along axis 0; layers that told nothing are left out."""
    told: list[list[Tensor]] = [[] for _ in range(layers)]
    for layer, values in found:
        told[layer].append(values)
    return [torch.cat(values) for values in told if values]
