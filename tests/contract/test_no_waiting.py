"""A training step never waits for its device: on the meta device, which has no numbers, whoever asks for one gets an error."""

from contextlib import nullcontext
from dataclasses import replace

import pytest

from softcue.heads import Head
from softcue.loop import Loop, Run
from softcue.model import Model, Place
from softcue.parallel import ALONE
from softcue.prepare import Item
from softcue.protocol import Cue
from softcue.settings import Training
from softcue.text import Encoded
from tests.contract.cases import FAMILIES, GRID, LENGTHS, METHODS, settled
from tests.tiny import random_examples, tiny_encoder

TARGETS = {"classify": 1, "score": 0.5, "tag": [0, 1]}


def items(family: str, kind: str) -> list[Item]:
    """Two questions of two choices, or four questions."""
    examples = [replace(example, word=(1, 2) if kind == "tag" else ()) for example in random_examples(family, LENGTHS[:4])]
    encoded = [Encoded(example, (), 0, 0) for example in examples]
    if kind == "choice":
        return [Item(tuple(encoded[at : at + 2]), (0, 1)) for at in (0, 2)]
    return [Item((one,), (TARGETS[kind],)) for one in encoded]


def step(family: str, method: str, kinds: tuple[str, ...], learns: bool = False, **options: float) -> None:
    """One optimiser step of a model with a seat for each kind, on the meta device; the encoder may learn too."""
    encoder = tiny_encoder(family).requires_grad_(learns)
    seats = len(kinds)
    cue = Cue.registry[method](encoder.dims, settled(method, encoder.dims, **options), seats)
    heads = [Head.registry[kind](encoder.dims.hidden, [1 if kind in ("score", "choice") else 3] * seats, "cls") for kind in kinds]
    model = Model(encoder, [cue], heads, [Place(0, seat, seat, seat) for seat in range(seats)]).to("meta").train()
    runs = [Run(seat, items(family, kind), Training(batch=2), lambda: 0.0, seat, 1) for seat, kind in enumerate(kinds)]
    loop = Loop(model, runs, ALONE)
    losses = loop.step(runs, nullcontext)
    assert losses.shape == (seats,) and losses.device.type == "meta"


@pytest.mark.parametrize(("family", "method"), GRID)
def test_no_method_waits_on_any_family(family: str, method: str) -> None:
    step(family, method, ("classify", "classify"))


@pytest.mark.parametrize("method", METHODS)
def test_no_head_waits(method: str) -> None:
    step("bert", method, ("classify", "score", "tag", "choice"))


@pytest.mark.parametrize("method", METHODS)
def test_no_method_waits_alone(method: str) -> None:
    step("bert", method, ("classify",))


@pytest.mark.parametrize("family", FAMILIES)
def test_full_fine_tuning_does_not_wait(family: str) -> None:
    step(family, "probe", ("classify",), learns=True)
