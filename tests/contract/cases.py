"""What the contract tests share: a model of any registered method over any encoder family, on
tiny random weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

import softcue.cues  # noqa: F401  (fills the registry)
from softcue.batch import Example
from softcue.encoder.core import Encoder
from softcue.heads import Head
from softcue.model import Model
from softcue.protocol import Cue, Dims, Facts
from tests.tiny import TINY, random_examples, tiny_encoder

METHODS = sorted(Cue.registry)
FAMILIES = sorted(TINY)
GRID = [(family, method) for family in FAMILIES for method in METHODS]
LENGTHS = (9, 3, 14, 6, 5, 11, 8)
SEATS = (2, 0, 1, 2, 0, 1, 1)
CLASSES = (2, 5, 3)


def settled(method: str, dims: Dims, **options: Any) -> Any:
    """The method's config for pairs of texts, small, with every dropout off unless asked for."""
    cls = Cue.registry[method]
    names = {f.name for f in fields(cls.Config)}
    small = {"length": 4} if "length" in names else {}
    calm = {name: 0.0 for name in names if "dropout" in name}
    mass = torch.rand(dims.layers, 3, generator=torch.Generator().manual_seed(7))
    return cls.settle(
        cls.Config(**{**small, **calm, **options}), Facts(dims, ("cls", "sep", "sep"), lambda: mass)
    )


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Give every number a random value, so that nothing is true by accident (a LoRA of zeros, say)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


def make_model(
    encoder: Encoder,
    method: str,
    adapters: int = len(CLASSES),
    seed: int = 3,
    pooling: str = "mean",
    **options: Any,
) -> Model:
    """A model with `adapters` random adapters of one method, each with its own number of classes."""
    encoder.requires_grad_(False)
    cue = Cue.registry[method](encoder.dims, settled(method, encoder.dims, **options), adapters)
    classes = [CLASSES[i % len(CLASSES)] for i in range(adapters)]
    head = Head("classify", encoder.dims.hidden, classes, pooling)
    for part in (cue, head):
        randomise(part, seed)
    return Model.single(encoder, cue, head, adapters).eval()


def logits(model: Model, examples: Sequence[Example], seats: Sequence[int]) -> list[Tensor]:
    """Logits of each example in the order given, from one packed forward; classes that a seat
    lacks left out.
    """
    batch = model.pack(examples, seats)
    rows: dict[int, Tensor] = {}
    for part in model(batch).parts:
        for order, seat, row in zip(part.batch.order, part.batch.seats, part.logits, strict=True):
            rows[order] = row[: int(part.head.classes[seat])]
    return [rows[i] for i in range(len(examples))]


@dataclass
class Case:
    """One cell of the grid."""

    model: Model
    examples: list[Example]


def case(family: str, method: str, **options: Any) -> Case:
    """Three random adapters and seven ragged examples."""
    return Case(make_model(tiny_encoder(family), method, **options), random_examples(family, LENGTHS))
