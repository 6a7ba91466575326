"""A training step never waits for its device: on the meta device, which has no numbers, whoever
asks for one gets an error.

Nor does it wait by sending: a GPU that is given numbers of the host otherwise than by `sent` first ends all
that it has at hand.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from softcue.heads import Head
from softcue.model import Assignment, Model
from softcue.protocol import Cue
from softcue.readers.items import Item
from softcue.text.tokens import Encoded
from softcue.training.loop import Loop
from softcue.training.parallel import ALONE
from softcue.training.run import TrainingRun
from softcue.training.settings import Training
from tests.contract.cases import FAMILIES, GRID, LENGTHS, METHODS, settled
from tests.tiny import random_examples, tiny_encoder

TARGETS = {"classify": 1, "score": 0.5, "tag": [0, 1], "multilabel": (0, 2)}


class Sending(TorchFunctionMode):
    """An error for whoever sends numbers to the meta device as a GPU would wait for, or mixes
    them with numbers that are there.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs, made = kwargs or {}, func(*args, **(kwargs or {}))
        if not (isinstance(made, Tensor) and made.device.type == "meta"):
            return made
        given = tree_leaves((args, kwargs))
        host = any(isinstance(x, Tensor) and x.device.type == "cpu" and x.dim() for x in given)
        lists = func in (torch.tensor, torch.as_tensor) or (
            func is Tensor.__getitem__ and any(isinstance(x, list) for x in _index(args))
        )
        assert not lists and (not host or kwargs.get("non_blocking")), (
            f"{func} sends numbers of the host and waits"
        )
        return made


def _index(args: Any) -> Any:
    return args[1] if isinstance(args[1], tuple) else args[1:]


def items(family: str, kind: str) -> list[Item]:
    """Two questions of two choices, or four questions."""
    examples = [
        replace(example, word=(1, 2) if kind == "tag" else ())
        for example in random_examples(family, LENGTHS[:4])
    ]
    encoded = [Encoded(example, (), 0, 0) for example in examples]
    if kind == "choice":
        return [Item(tuple(encoded[at : at + 2]), (0, 1)) for at in (0, 2)]
    return [Item((one,), (TARGETS[kind],)) for one in encoded]


def step(family: str, method: str, kinds: tuple[str, ...], learns: bool = False, **options: float) -> None:
    """One optimiser step of a model with a seat for each kind, on the meta device; the encoder
    may learn too.
    """
    encoder = tiny_encoder(family).requires_grad_(learns)
    seats = len(kinds)
    cue = Cue.registry[method](encoder.dims, settled(method, encoder.dims, **options), seats)
    heads = [
        Head(kind, encoder.dims.hidden, [1 if kind in ("score", "choice") else 3] * seats, "cls")
        for kind in kinds
    ]
    model = (
        Model(encoder, [cue], heads, [Assignment(0, seat, seat, seat) for seat in range(seats)])
        .to("meta")
        .train()
    )
    runs = [
        TrainingRun(seat, items(family, kind), Training(batch=2), lambda: 0.0, seat, 1)
        for seat, kind in enumerate(kinds)
    ]
    loop = Loop(model, runs, ALONE)
    with Sending():
        losses = loop.step(runs, nullcontext)
    assert losses.shape == (seats,) and losses.device.type == "meta"


@pytest.mark.parametrize(("family", "method"), GRID)
def test_no_method_waits_on_any_family(family: str, method: str) -> None:
    step(family, method, ("classify", "classify"))


@pytest.mark.parametrize("method", METHODS)
def test_no_head_waits(method: str) -> None:
    step("bert", method, ("classify", "score", "tag", "choice", "multilabel"))


@pytest.mark.parametrize("method", METHODS)
def test_no_method_waits_alone(method: str) -> None:
    step("bert", method, ("classify",))


@pytest.mark.parametrize("family", FAMILIES)
def test_full_fine_tuning_does_not_wait(family: str) -> None:
    step(family, "probe", ("classify",), learns=True)


def test_a_forward_of_all_methods_together_does_not_wait() -> None:
    encoder, seats = tiny_encoder("bert"), range(len(METHODS))
    cues = [Cue.registry[method](encoder.dims, settled(method, encoder.dims), 1) for method in METHODS]
    head = Head("classify", encoder.dims.hidden, [3] * len(METHODS), "cls")
    model = Model(encoder, cues, [head], [Assignment(seat, 0, 0, seat) for seat in seats]).to("meta").eval()
    with Sending(), torch.inference_mode():
        output = model(model.pack(random_examples("bert", [5 + seat % 3 for seat in seats]), list(seats)))
    assert output.parts[0].logits.shape == (len(METHODS), 3)


def test_the_guard_sees_what_a_gpu_would_wait_for() -> None:
    there, here = torch.zeros(3, device="meta"), torch.tensor([0, 1])
    for sends in (
        lambda: torch.tensor([1, 2], device="meta"),
        lambda: here.to("meta"),
        lambda: there[here],
        lambda: there[[0, 1]],
    ):
        with pytest.raises(AssertionError, match="sends numbers of the host"), Sending():
            sends()
    with Sending():
        assert there[here.to("meta", non_blocking=True)].shape == (2,)
