"""The half of a frozen layer after attention, whose way back is written by hand: what autograd makes of the same steps."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from softcue.encoder import core
from softcue.encoder.core import Layer, Spec
from softcue.encoder.half import WAY_BACK, takes
from softcue.encoder.linear import ACTIVATIONS
from tests.test_linear import needs_kernel

SPEC = Spec(vocabulary=8, layers=1, hidden=32, heads=4, ff=64, embed=32, positions=8)


def layer(activation: str = "gelu", training: bool = True, drops: tuple[str, ...] = ("norm1", "norm2")) -> Layer:
    torch.manual_seed(0)
    own = Layer(replace(SPEC, activation=activation, dropout=0.3)).bfloat16().requires_grad_(False).train(training)
    own.drops = drops
    for norm in (own.norm1, own.norm2):  # other than ones and zeros, which would hide a wrong use of them
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-0.5, 0.5)
    return own


def rows(seed: int) -> Tensor:
    return torch.randn(50, SPEC.hidden, generator=torch.Generator().manual_seed(seed)).bfloat16()


def both_ways(own: Layer, monkeypatch: pytest.MonkeyPatch, needs: tuple[bool, bool]) -> list[list[Tensor | None]]:
    """Output and gradients by the hand-written step, and by autograd."""
    assert takes(own, rows(2).requires_grad_(), own.spec.activation)
    found: list[list[Tensor | None]] = []
    for _ in range(2):
        hidden, mixed = rows(1).requires_grad_(needs[0]), rows(2).requires_grad_(needs[1])
        torch.manual_seed(3)
        out = own.finish(hidden, mixed, None)
        out.backward(rows(4))
        found.append([out.detach(), hidden.grad, mixed.grad])
        monkeypatch.setattr(core, "takes", lambda *_: False)
    return found


@needs_kernel
@pytest.mark.parametrize("activation", sorted(WAY_BACK))
@pytest.mark.parametrize("training", [True, False])
def test_it_gives_what_autograd_gives(activation: str, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand, by_autograd = both_ways(layer(activation, training), monkeypatch, (True, True))
    assert by_hand[0] is not None and by_autograd[0] is not None and torch.equal(by_hand[0], by_autograd[0])  # dropout's draws too
    for ours, theirs in zip(by_hand[1:], by_autograd[1:], strict=True):
        assert ours is not None and theirs is not None
        assert (ours - theirs).float().norm() < 2**-6 * theirs.float().norm()  # sums are rounded once less


@needs_kernel
def test_a_layer_that_drops_but_once_and_an_input_without_a_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand, by_autograd = both_ways(layer(drops=("norm2",)), monkeypatch, (False, True))
    assert by_hand[1] is None and by_hand[2] is not None and by_autograd[2] is not None
    assert (by_hand[2] - by_autograd[2]).float().norm() < 2**-6 * by_autograd[2].float().norm()


@needs_kernel
def test_what_is_not_frozen_or_not_known_is_left_to_autograd() -> None:
    x, own = rows(2).requires_grad_(), layer()
    assert not takes(own, rows(2), "gelu")  # nothing asks for a way back
    with torch.no_grad():
        assert not takes(own, x, "gelu")
    unknown = sorted(set(ACTIVATIONS) - set(WAY_BACK))
    assert unknown and not any(takes(own, x, activation) for activation in unknown)
    own.norm1.weight.requires_grad_(True)
    assert not takes(own, x, "gelu")
    assert not takes(layer().float(), x.float(), "gelu")
