"""softcue's side of every comparison: real text as items, and the steps that training and prediction take."""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from softcue.answering.evaluation import pack_items, run
from softcue.base import Base, best_dtype, open_base
from softcue.cues import Cue
from softcue.encoder.load import load_encoder
from softcue.heads import Head
from softcue.model import Model
from softcue.protocol import Facts
from softcue.readers.items import Item, Reading, make_items
from softcue.tasks import open_data
from softcue.training.loop import seat_losses
from softcue.training.optim import SeatAdamW
from softcue.training.settings import preset

LIMIT = 128  # tokens, as in the published recipes
BATCH = 32
PAIRS = ("mrpc",)
Batches = Sequence[Sequence[Item]]
Step = Callable[[Batches], None]  # takes one optimiser step a batch


@dataclass(frozen=True)
class Workload:
    """A task's training text as token ids."""

    task: str
    kind: str
    labels: tuple[str, ...]
    pair: bool
    items: list[Item]

    @property
    def random(self) -> list[list[Item]]:
        """Batches as they come."""
        return [self.items[at : at + BATCH] for at in range(0, len(self.items), BATCH)]

    @property
    def sorted(self) -> list[list[Item]]:
        """The same items in batches of similar length."""
        ordered = sorted(self.items, key=lambda item: item.rows)
        return [ordered[at : at + BATCH] for at in range(0, len(ordered), BATCH)]

    def parts(self, count: int, size: int) -> "list[Workload]":
        """The same task in `count` parts of `size` items one after another, from the start
        again where they end.
        """
        return [
            replace(self, items=[self.items[(i * size + j) % len(self.items)] for j in range(size)])
            for i in range(count)
        ]

    @property
    def rows(self) -> int:
        """Tokens."""
        return sum(item.rows for item in self.items)


@cache
def backbone(size: str, device: str = "cpu") -> Base:
    """MiniLM, or a model of bert-base's or roberta-large's sizes with random weights behind
    MiniLM's tokenizer.
    """
    base = open_base("minilm", device=device)
    if size == "minilm":
        return base
    return Base(load_encoder(random_checkpoint(size), best_dtype(device), device), base.text)


@cache
def random_checkpoint(size: str) -> Path:
    """A folder with random weights of that size; it lasts until the system clears its temporary files."""
    folder = Path(tempfile.gettempdir()) / f"softcue-benchmark-{size}"
    if not (folder / "model.safetensors").is_file():
        torch.manual_seed(0)
        large: dict[str, Any] = {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
        }
        model = (
            BertModel(BertConfig())
            if size == "bert-base"
            else RobertaModel(
                RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, **large)
            )
        )
        model.save_pretrained(folder)
    return folder


@cache
def workload(task: str, examples: int) -> Workload:
    """The first `examples` training rows of a benchmark in the folder that SOFTCUE_DATA names."""
    root = os.environ.get("SOFTCUE_DATA")
    if root is None:
        raise SystemExit("set SOFTCUE_DATA to the folder that holds sst2, mrpc, conll2003 and atis_intent")
    data = open_data(task, data_root=Path(root), limit={"train": examples}, splits=("train",))
    items = make_items(
        data.splits["train"][:examples], backbone("minilm").text, Reading(data.kind, data.labels, LIMIT)
    )
    return Workload(task, data.kind, data.labels, data.pair, items)


def model_of(
    base: Base, method: str, work: Workload, pooling: str, adapters: int = 1, **settings: Any
) -> Model:
    """A fresh model of one method; pooling "pooler" is what transformers' own classifiers compute."""
    torch.manual_seed(0)
    encoder, slots = base.backbone.encoder, base.text.slots(work.pair)
    cls = Cue.registry[method]
    mass = torch.rand(encoder.dims.layers, len(slots))
    config = cls.settle(cls.Config(**settings), Facts(encoder.dims, slots, lambda: mass))
    head = Head(work.kind, encoder.dims.hidden, [len(work.labels)] * adapters, pooling)
    model = Model.single(encoder, cls(encoder.dims, config, adapters), head, adapters)
    return model.to(model.device)


def training(base: Base, method: str, work: Workload, pooling: str = "pooler") -> Step:
    """A function that takes one optimiser step a batch, as softcue.training.loop does; "full"
    unfreezes a copy of the encoder.
    """
    if method == "full":
        encoder = backbone_copy(base)
        model = model_of(Base(replace(base.backbone, encoder=encoder), base.text), "probe", work, pooling)
    else:
        model = model_of(base, method, work, pooling)
    optimizer = SeatAdamW(model.tuned(), 1, model.rate_shares())
    rate, decay, clip = torch.tensor([1e-4]), torch.zeros(1), torch.ones(1)
    head = torch.tensor([preset(method, work.kind, len(work.items), {}).head_rate])
    half = next(base.backbone.encoder.parameters()).dtype == torch.bfloat16

    def steps(batches: Sequence[Sequence[Item]]) -> None:
        model.train()
        for items in batches:
            batch = pack_items(model, items, [0] * len(items))
            with (
                torch.autocast(model.device.type, torch.bfloat16)
                if method == "full" and half
                else nullcontext()
            ):
                losses = seat_losses(
                    model(batch), [target for item in items for target in item.targets], batch.seat, 1
                )
            losses.sum().backward()
            optimizer.step(rate, decay, clip, head)

    return steps


def backbone_copy(base: Base) -> Any:
    """A float32 copy of the encoder that training may change."""
    source = base.backbone.encoder
    copy = load_encoder(base.backbone.folder, torch.float32, next(source.parameters()).device).encoder
    assert copy.dims == source.dims
    return copy.requires_grad_(True)


def serving(
    base: Base, method: str, work: Workload, pooling: str, adapters: int = 1, **settings: Any
) -> Model:
    """A model as Predictor makes it."""
    model = model_of(base, method, work, pooling, adapters, **settings).eval()
    model.serve()
    return model


def prediction(
    base: Base, method: str, work: Workload, pooling: str = "pooler"
) -> Callable[[Sequence[Item]], list[Tensor]]:
    """A function that answers items as Predictor does, in batches of its own choice."""
    model = serving(base, method, work, pooling)
    return lambda items: run(model, items, [0] * len(items))
