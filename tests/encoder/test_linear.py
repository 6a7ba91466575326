"""Linear: the quick products of a frozen map give what nn.Linear gives, forward and backward; a
laid-out weight follows the weight.
"""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from softcue.encoder import linear as module
from softcue.encoder.linear import (
    ACTIVATIONS,
    FEW_ROWS,
    FUSED,
    Linear,
    longer,
    multiplies_in_bfloat16,
    operators_are_there,
)
from softcue.kernels import library

needs_bfloat16 = pytest.mark.skipif(
    not (operators_are_there() and multiplies_in_bfloat16()),
    reason="no bfloat16 products with laid-out weights here",
)
BFLOAT16 = pytest.param(torch.bfloat16, marks=needs_bfloat16)
ROUNDING = {torch.bfloat16: 2**-7, torch.float32: 2**-18}
FLOAT32 = pytest.param(
    torch.float32, marks=pytest.mark.skipif(library() is None, reason="the kernels were not built here")
)
quick = pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT32])


def frozen(
    dtype: torch.dtype = torch.bfloat16, inputs: int = 24, outputs: int = 40, bias: bool = True
) -> Linear:
    torch.manual_seed(0)
    return Linear(inputs, outputs, bias).to(dtype).requires_grad_(False)


def rows(count: int, width: int = 24, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(count)).to(dtype)


@quick
@pytest.mark.parametrize("count", [1, 13, FEW_ROWS, FEW_ROWS + 1])
@pytest.mark.parametrize("bias", [True, False])
def test_a_quick_product_is_the_plain_one(dtype: torch.dtype, count: int, bias: bool) -> None:
    own, x = frozen(dtype, bias=bias), rows(count, dtype=dtype)
    with torch.no_grad():
        assert own.quick(x)
        torch.testing.assert_close(own(x), F.linear(x, own.weight, own.bias))
        part = F.linear(x, own.weight[8:30], None if own.bias is None else own.bias[8:30])
        torch.testing.assert_close(own.part(x, 8, 30), part)


@quick
@pytest.mark.parametrize("part", [(0, 40), (8, 30)])
def test_the_way_back_is_that_of_the_plain_product(dtype: torch.dtype, part: tuple[int, int]) -> None:
    own = frozen(dtype)
    assert own.bias is not None
    weight, bias, gradients = own.weight[slice(*part)], own.bias[slice(*part)], []
    for made in (lambda x: own.part(x, *part), lambda x: F.linear(x, weight, bias)):
        x = rows(50, dtype=dtype).requires_grad_()
        made(x).float().square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)


@quick
def test_the_way_back_may_bring_a_sum_and_a_factor(dtype: torch.dtype) -> None:
    own, grad, beside, factor = (
        frozen(dtype),
        rows(50, 40, dtype),
        rows(50, dtype=dtype),
        rows(51, dtype=dtype)[:50],
    )
    exact = (beside.float() + grad.float() @ own.weight.float()) * factor.float()
    torch.testing.assert_close(
        own.back(grad, beside, factor).float(), exact, rtol=2 * ROUNDING[dtype], atol=2 * ROUNDING[dtype]
    )


@quick
@pytest.mark.parametrize("activation", sorted(FUSED))
def test_a_fused_activation_is_the_activation_of_the_unrounded_product(
    dtype: torch.dtype, activation: str
) -> None:
    own, x = frozen(dtype), rows(64, dtype=dtype)
    assert own.bias is not None
    exact = ACTIVATIONS[activation](F.linear(x.float(), own.weight.float(), own.bias.float()))
    with torch.no_grad():
        torch.testing.assert_close(
            own.activated(x, activation).float(), exact, rtol=ROUNDING[dtype], atol=ROUNDING[dtype] / 4
        )
    plain = own.activated(x.clone().requires_grad_(), activation)
    assert plain.grad_fn is not None
    torch.testing.assert_close(plain.float(), exact, rtol=2**-6, atol=2**-6)


@quick
def test_a_sum_in_one_go_is_that_of_the_unrounded_product(dtype: torch.dtype) -> None:
    own, x, residual = frozen(dtype), rows(64, dtype=dtype), rows(64, 40, dtype)
    assert own.bias is not None
    exact = residual.float() + F.linear(x.float(), own.weight.float(), own.bias.float())
    before = residual.clone()
    with torch.no_grad():
        torch.testing.assert_close(
            own.added(x, residual).float(), exact, rtol=ROUNDING[dtype], atol=ROUNDING[dtype]
        )
    assert torch.equal(residual, before)
    torch.testing.assert_close(
        own.added(x.clone().requires_grad_(), residual).float(), exact, rtol=2**-6, atol=2**-5
    )


@quick
def test_a_changed_weight_is_laid_out_anew(dtype: torch.dtype) -> None:
    own, x = frozen(dtype), rows(5, dtype=dtype)
    with torch.no_grad():
        before = own(x)
        own.weight.mul_(2)
        torch.testing.assert_close(own(x), F.linear(x, own.weight, own.bias))
        assert not torch.equal(own(x), before)


@quick
def test_a_weight_made_in_inference_mode_is_laid_out_too(dtype: torch.dtype) -> None:
    with torch.inference_mode():
        own, x = frozen(dtype), rows(5, dtype=dtype)
        torch.testing.assert_close(own(x), F.linear(x, own.weight, own.bias))
        assert own.layouts is not None


@quick
def test_a_copy_has_no_layouts_and_a_state_has_none_either(dtype: torch.dtype) -> None:
    own = frozen(dtype)
    with torch.no_grad():
        own(rows(5, dtype=dtype))
    assert own.layouts is not None
    other = copy.deepcopy(own)
    assert other.layouts is None and torch.equal(other.weight, own.weight)
    assert set(own.state_dict()) == {"weight", "bias"}


@pytest.mark.skipif(library() is None, reason="the kernels were not built here")
def test_in_float32_a_weight_is_laid_out_for_few_rows_which_get_the_same_bits() -> None:
    own, x = frozen(torch.float32), rows(FEW_ROWS + 1, dtype=torch.float32)
    many = own(x)
    assert own.layouts is None
    assert torch.equal(own(x[:FEW_ROWS]), many[:FEW_ROWS]) and own.layouts is not None


def test_what_is_trained_or_of_another_kind_takes_the_public_operator() -> None:
    x = rows(5, dtype=torch.float32)
    assert frozen(torch.float32).quick(x) == (library() is not None)
    assert frozen().quick(x.bfloat16()) == (operators_are_there() and multiplies_in_bfloat16())
    assert not frozen(torch.float32).requires_grad_(True).quick(x) and not frozen().requires_grad_(
        True
    ).quick(x.bfloat16())
    assert (
        not frozen().quick(x)
        and not frozen(torch.float32).quick(x.bfloat16())
        and not frozen(torch.float32).quick(x[None])
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert not frozen(torch.float32).quick(x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_without_operators_and_kernels_the_public_one_is_taken(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, x = frozen(dtype), rows(5, dtype=dtype)
    monkeypatch.setattr(module, "operators_are_there", lambda: False)
    monkeypatch.setattr("softcue.kernels.library", lambda: None)
    with torch.no_grad():
        assert not own.quick(x)
        torch.testing.assert_close(own.activated(x, "gelu"), F.gelu(F.linear(x, own.weight, own.bias)))


@quick
def test_a_bias_may_learn_beside_a_frozen_weight(dtype: torch.dtype) -> None:
    own, x = frozen(dtype), rows(5, dtype=dtype).requires_grad_()
    assert own.bias is not None
    own.bias.requires_grad_()
    assert not own.quick(x) and not own.frees(x)
    own(x).float().sum().backward()
    assert own.bias.grad is not None and torch.equal(own.bias.grad.float(), torch.full((40,), 5.0))


def test_products_have_few_numbers_of_rows() -> None:
    lengths = {count: len(longer(torch.ones(count, 1))) for count in range(1, 2049)}
    assert all(count <= length <= count * 17 / 16 for count, length in lengths.items())
    assert all(len({lengths[count] for count in range(2**n + 1, 2 ** (n + 1) + 1)}) <= 16 for n in range(11))
    x = longer(rows(1000))
    assert len(x) > 1000 and torch.equal(x[:1000], rows(1000)) and not x[1000:].any()


def test_an_unfrozen_map_is_the_plain_product_in_autocast_for_any_number_of_rows() -> None:
    torch.manual_seed(0)
    own, found = Linear(24, 40), []
    for made in (own, lambda x: F.linear(x, own.weight, own.bias)):
        x = rows(999).float().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = made(x)
        y.float().square().sum().backward()
        found.append((y, x.grad, own.weight.grad))
        own.weight.grad = None
    for ours, theirs in zip(*found, strict=True):
        assert ours is not None and theirs is not None
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)
