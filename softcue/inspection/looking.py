"""Opening an adapter with texts to look at, and running it while its cue shows what it decides."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from softcue.adapter import Adapter
from softcue.answering.evaluation import ROW_BUDGET
from softcue.answering.predict import reading_of
from softcue.api import open_predictor
from softcue.base import Base
from softcue.batch import Batch, Example
from softcue.encoder.core import Encoder
from softcue.errors import RequestError
from softcue.model import Model
from softcue.options import check_whole
from softcue.protocol import Context, Cue, Prefix, Silent
from softcue.readers import Data
from softcue.readers.items import make_items
from softcue.tasks import data_root, open_data

LOOKED_AT = 256  # texts, unless the caller says otherwise
MOST = 2**31
Shown = Mapping[str, Mapping[int, list[Tensor]]]  # by name and layer: what each batch showed


@dataclass(frozen=True)
class Subject:
    """An adapter, and the examples that it is looked at with."""

    adapter: Adapter
    model: Model
    cue: Cue
    slots: tuple[str, ...]  # roles of the special tokens, in reading order
    examples: list[Example]
    told: Mapping[str, str | int]  # method, data, split and rows: what every look says of itself

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder."""
        return self.model.encoder

    def batches(self) -> Iterator[Batch]:
        """Yield the examples packed for the adapter, as many at a time as a forward pass takes."""
        longest = max(len(example.token) for example in self.examples) + self.cue.reserve
        per_batch = max(1, ROW_BUDGET // longest)
        for first in range(0, len(self.examples), per_batch):
            part = self.examples[first : first + per_batch]
            yield self.model.pack(part, [0] * len(part))


def open_subject(
    adapter: str | Path | Adapter,
    data: str | Path | Data,
    *,
    split: str | None = None,
    rows: int = LOOKED_AT,
    backbone: str | Base | None = None,
    root: str | Path | None = None,
) -> Subject:
    """Open an adapter in float32, and the first rows of a split: of test, or else dev, or else train.

    Raises SoftcueError.
    """
    rows = check_whole("rows", rows, 1, MOST)
    predictor, name = open_predictor(adapter, backbone, "float32", "cpu")
    loaded, text = predictor.adapters[name], predictor.base.text
    if not isinstance(data, Data):
        data = open_data(data, kind=loaded.kind, data_root=data_root(root), seed=loaded.seed)
    if (data.kind, data.pair) != (loaded.kind, loaded.pair):
        raise RequestError(
            f"{data.name} is of kind {data.kind}{' with pairs' if data.pair else ''}; expected "
            f"{loaded.kind}{' with pairs' if loaded.pair else ''}, which the adapter answers"
        )
    wanted = split or next(one for one in ("test", "dev", "train") if data.splits.get(one))
    if not data.splits.get(wanted):
        raise RequestError(f"{data.name} has no rows in {wanted}; it has {', '.join(data.splits)}")
    records = data.splits[wanted][:rows]
    items = make_items(records, text, reading_of(loaded))
    told: dict[str, str | int] = {
        "method": loaded.method,
        "data": data.name,
        "split": wanted,
        "rows": len(records),
    }
    return Subject(
        loaded,
        predictor.model,
        predictor.model.mixture.cue_of(0),
        tuple(text.slots(loaded.pair or loaded.kind == "choice")),
        [example for item in items for example in item.examples],
        told,
    )


class Watched(Silent):
    """Passes everything on to a cue, which shows what it decides, and notes its prefixes."""

    def __init__(self, cue: Cue) -> None:
        super().__init__()
        self.cue = cue
        self.shown: dict[str, dict[int, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
        self.prefixes: dict[int, Prefix] = {}

    def note(self, name: str, layer: int, values: Tensor) -> None:
        """Keep what the cue showed of a layer: (B, ..)."""
        self.shown[name][layer].append(values.float().cpu())

    def on_words(self, word: Tensor, ctx: Context) -> Tensor:
        """Ask the cue to show what it decides, and pass on: (N, E) -> (N, E)."""
        ctx.show = self.note
        return self.cue.on_words(word, ctx)

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """Pass on: (N, D) -> (N, D)."""
        return self.cue.before_layer(layer, hidden, ctx)

    def prefix(self, layer: int, hidden: Tensor, ctx: Context) -> Prefix | None:
        """Pass on, and note the prefix: (N, D) -> Prefix or None."""
        made = self.cue.prefix(layer, hidden, ctx)
        if made is not None:
            self.prefixes[layer] = made
        return made

    def on_affine(self, layer: int, site: str, x: Tensor, y: Tensor, ctx: Context) -> Tensor:
        """Pass on: (M, I), (M, O) -> (M, O)."""
        return self.cue.on_affine(layer, site, x, y, ctx)

    def edited(self, ctx: Context) -> frozenset[str]:
        """Return the sites that the cue edits."""
        return self.cue.edited(ctx)


@torch.inference_mode()
def watch(subject: Subject) -> Watched:
    """Run the adapter over its examples, and return what its cue showed."""
    watched = Watched(subject.cue).eval()
    for batch in subject.batches():
        subject.encoder(batch, watched)
    return watched


def by_layer(shown: Shown, name: str, subject: Subject, expected: str) -> dict[int, Tensor]:
    """Return what was shown under a name: layer -> (B, ..), the examples of all batches.

    Raises RequestError where the adapter's method shows nothing of that name.
    """
    if name not in shown:
        raise RequestError(
            f"the adapter was trained with {subject.adapter.method}, which shows no {name}; expected an "
            f"adapter of a method that has one, {expected}"
        )
    return {layer: torch.cat(values) for layer, values in sorted(shown[name].items())}
