"""Jobs on tiny data, trained on a tiny base, and what tests compare of them."""

from dataclasses import fields
from typing import Any

import torch

from softcue.adapter import Adapter
from softcue.answering.evaluation import run
from softcue.answering.seating import seat_adapters
from softcue.answering.served import reading_of
from softcue.protocol import Cue
from softcue.readers.items import make_items
from softcue.readers.records import Data
from softcue.training.job import Job
from softcue.training.jobs import train_jobs
from tests.tiny_base import tiny_base

CALM: dict[str, Any] = {"backbone_dropout": False, "head_dropout": 0.0, "patience": 0}
RATES = {"pasta": 2e-2, "lora": 1e-2, "spt": 2e-2}


def job(
    data: Data, method: str = "bitfit", seed: int = 0, settings: dict[str, Any] | None = None, **training: Any
) -> Job:
    shared = {"epochs": 15, "batch": 16, "rate": RATES.get(method, 1e-2), **CALM, **training}
    return Job(data, method, settings or {}, shared, seed)


def train(one: Job) -> Adapter:
    return train_jobs([one], tiny_base())[0]


def logits(adapter: Adapter, data: Data) -> list[torch.Tensor]:
    """The adapter's answers to the test rows."""
    model = seat_adapters(tiny_base(), [adapter])
    items = make_items(data.splits["test"], tiny_base().text, reading_of(adapter))
    return run(model, items, [0] * len(items))


def same(one: Adapter, other: Adapter) -> bool:
    pairs = [
        (part[name], rest[name])
        for part, rest in ((one.cue, other.cue), (one.head, other.head))
        for name in part
    ]
    return all(torch.equal(a, b) for a, b in pairs)


def calm(method: str) -> dict[str, Any]:
    """The method's dropouts switched off."""
    return {f.name: 0.0 for f in fields(Cue.registry[method].Config) if "dropout" in f.name}
