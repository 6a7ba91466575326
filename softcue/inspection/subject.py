"""The subject of an inspection: one adapter over its encoder, and the examples that it reads."""

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

ROWS = 256  # the most rows of a data set that are used by default
MOST_ROWS = 2**31
WHERE = ("test", "dev")  # the first of these splits that exists is used
DRAW_SEED = 0  # draws the rows if a split has more

Row = tuple[float, ...]
Grid = tuple[Row, ...]  # numbers, by layer and one more axis


class HowOpened(TypedDict, total=False):
    """The arguments of every view besides the adapter and the data."""

    split: str | None  # default: the first of WHERE that exists
    rows: int  # the most rows of it, drawn with a fixed seed
    backbone: str | Base | None  # default: the one that the adapter names
    root: str | Path | None  # the folder of data sets that are given by name
    columns: Said | None
    encoding: str | None
    precision: str
    device: str


@dataclass(frozen=True)
class Shown(JsonRecord):
    """Names the adapter that was inspected, and the data that it read."""

    adapter: str
    method: str
    grade: str  # as "reconstruction"; empty for an exact copy
    data: str
    split: str
    texts: int  # number of examples; a question has one for each choice

    @property
    def title(self) -> str:
        """The title of a picture."""
        grade = f" ({self.grade})" if self.grade else ""
        return f"{self.method.upper()}{grade} on {self.data}, {self.texts} texts of {self.split}"


@dataclass(frozen=True)
class Subject:
    """An adapter, alone over its encoder, and items of its kind."""

    shown: Shown
    adapter: Adapter
    model: Model
    items: Sequence[Item]
    slots: tuple[str, ...]  # names of the special tokens, in reading order

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder."""
        return self.model.encoder

    @property
    def examples(self) -> list[Example]:
        """The items' examples."""
        return [example for item in self.items for example in item.examples]

    def batches(self) -> Iterator[Batch]:
        """Yield the examples with the adapter's reserved rows and positions."""
        for numbers in batches(self.items, ROW_BUDGET):
            yield pack_items(self.model, [self.items[i] for i in numbers], [0] * len(numbers))

    def bare_batches(self) -> Iterator[Batch]:
        """Yield the same examples for the bare encoder, without reserved rows."""
        for numbers in batches(self.items, ROW_BUDGET):
            examples = [example for i in numbers for example in self.items[i].examples]
            yield pack(examples, device=self.model.device)

    @torch.inference_mode()
    def look(self, batch: Batch, watch: AttentionObserver | None, watch_cue: CueObserver | None) -> None:
        """Run one batch through the encoder with the adapter."""
        self.encoder(batch, self.model.mixture, watch, watch_cue=watch_cue)

    def values(self, wanted: Mapping[str, Callable[[Tensor], Tensor]]) -> dict[str, list[tuple[int, Tensor]]]:
        """Collect what the method reports over all examples, as pairs (layer, values to keep) by name.

        wanted: name -> function that returns what to keep of the reported values.
        """
        found: dict[str, list[tuple[int, Tensor]]] = {name: [] for name in wanted}

        def keep(name: str, layer: int, values: Tensor) -> None:
            if name in found:
                found[name].append((layer, wanted[name](values).cpu()))

        for batch in self.batches():
            self.look(batch, None, keep)
        return found

    def refuse(self, wanted: str, who: str) -> RequestError:
        """Return the error for an adapter without what a view shows."""
        return RequestError(
            f"{self.shown.adapter} is an adapter of {self.adapter.method} and has no {wanted}; expected one "
            f"of {who}: train one (softcue train --method ..), or use `softcue inspect attention`"
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
    """Open an adapter and the examples that it reads. Raises SoftcueError.

    draw: whether to draw rows at random if there are too many; otherwise the first ones are used.
    """
    rows = check_whole("rows", rows, 1, MOST_ROWS)
    predictor, name = open_predictor(adapter, backbone, precision, device)
    own, base = predictor.adapters[name], predictor.base
    if own.backbone == OWN_ENCODER:
        raise RequestError(
            f"{name} is a fine-tuned checkpoint, which has no frozen encoder to compare with; expected an "
            "adapter: train one with a method other than full"
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
    """Return the names of special tokens: ("[CLS]", "[SEP] 1", "[SEP] 2") for a pair."""
    names = []
    for place, role in enumerate(roles):
        number = roles[: place + 1].count(role)
        names.append(f"[{role.upper()}]" + (f" {number}" if roles.count(role) > 1 else ""))
    return tuple(names)


def grid(table: Tensor) -> Grid:
    """Return a table of two axes as plain numbers: (L, S) -> rows."""
    return tuple(tuple(float(value) for value in row) for row in table.tolist())


def by_layer(found: Sequence[tuple[int, Tensor]], layers: int) -> list[Tensor]:
    """Join the values of each layer along axis 0; layers without values are left out."""
    told: list[list[Tensor]] = [[] for _ in range(layers)]
    for layer, values in found:
        told[layer].append(values)
    return [torch.cat(values) for values in told if values]
