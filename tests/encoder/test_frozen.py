"""A frozen layer's way back, written out, is the one that autograd finds step by step."""

import pytest
import torch
from torch import Tensor

from softcue.encoder.frozen import project
from softcue.encoder.layer import Layer
from softcue.encoder.linear import FUSED
from softcue.encoder.spec import Spec
from tests.encoder.test_linear import BFLOAT16, frozen, rows

dtypes = pytest.mark.parametrize("dtype", [BFLOAT16, torch.float32])
APART = {torch.bfloat16: 2**-6, torch.float32: 2**-18}  # by what they round away


def layer(dtype: torch.dtype, activation: str = "gelu", drops: tuple[str, ...] = ("norm1", "norm2")) -> Layer:
    torch.manual_seed(0)
    spec = Spec(
        vocabulary=9,
        layers=1,
        hidden=24,
        heads=2,
        ff=40,
        embed=24,
        positions=9,
        activation=activation,
        dropout=0.3,
    )
    made = Layer(spec).to(dtype).requires_grad_(False).train()
    made.drops = drops
    for norm in (made.norm1, made.norm2):
        torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    return made


def both_ways(made: Layer, count: int, monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    """Output and gradients of `finish`, written out and by autograd."""
    found, dtype = [], made.norm1.weight.dtype
    for written_out in (True, False):
        hidden, mixed = (
            rows(count, dtype=dtype).requires_grad_(),
            rows(count + 1, dtype=dtype)[:count].requires_grad_(),
        )
        torch.manual_seed(1)
        with monkeypatch.context() as patch:
            if not written_out:
                patch.setattr(made, "goes_back", lambda x: False)
            closed = made.finish(hidden, mixed, None)
        assert (type(closed.grad_fn).__name__ == "_FinishBackward") == written_out
        (closed.float() * rows(count).float()).sum().backward()
        assert hidden.grad is not None and mixed.grad is not None and closed.shape == hidden.shape
        found.append([closed.detach().float(), hidden.grad.float(), mixed.grad.float()])
    return found


def near(one: Tensor, other: Tensor, dtype: torch.dtype) -> None:
    assert (one - other).norm() < APART[dtype] * other.norm()


@dtypes
@pytest.mark.parametrize("count", [32, 37, 300])
@pytest.mark.parametrize("activation", sorted(FUSED))
def test_it_is_what_autograd_finds(
    dtype: torch.dtype, activation: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = layer(dtype, activation, drops=())
    for one, other in zip(*both_ways(made, count, monkeypatch), strict=True):
        near(one, other, dtype)


@dtypes
@pytest.mark.parametrize("drops", [("norm1", "norm2"), ("norm1",), ("norm2",)])
def test_dropout_stands_where_the_family_has_it(
    dtype: torch.dtype, drops: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = layer(dtype, drops=drops)
    for one, other in zip(*both_ways(made, 32, monkeypatch), strict=True):
        near(one, other, dtype)


@dtypes
def test_the_gradient_of_what_goes_beside_a_map_joins_the_maps(dtype: torch.dtype) -> None:
    own, x = frozen(dtype), rows(37, dtype=dtype).requires_grad_()
    y, beside = project(own, x)
    assert torch.equal(beside, x)
    (y.float().square().sum() + (3 * beside.float()).sum()).backward()
    again = rows(37, dtype=dtype).requires_grad_()
    (own(again).float().square().sum() + (3 * again.float()).sum()).backward()
    assert x.grad is not None and again.grad is not None
    near(x.grad.float(), again.grad.float(), dtype)


@dtypes
def test_the_written_way_is_taken_in_training_and_not_where_the_layer_learns(dtype: torch.dtype) -> None:
    made, x = layer(dtype), rows(8, dtype=dtype).requires_grad_()
    assert made.goes_back(x)
    assert not made.goes_back(x.detach())
    made.norm1.weight.requires_grad_(True)
    assert not made.goes_back(x)
    made.requires_grad_(True)
    assert not made.goes_back(x)
    with torch.no_grad():
        assert not layer(dtype).goes_back(x)
