"""How many numbers each method trains: the formula, the tensors and the numbers that the method's
own test file has, worked out by hand or read in its paper, are the same.
"""

import pytest
import torch

from softcue.protocol import Cue, Dims
from tests.cues.cue_cases import EVERY_SIZE, METHODS, SIZES, Counted, own


def built(method: str, dims: Dims, one: Counted) -> int:
    """Numbers of one adapter, from the tensors of a cue of three."""
    with torch.device("meta"):
        cue = Cue.registry[method](dims, one.settled(method, dims), 3)
    total = sum(parameter.numel() for parameter in cue.parameters())
    assert total % 3 == 0
    return total // 3


@pytest.mark.parametrize("method", METHODS)
def test_every_formula_gives_the_numbers_that_the_methods_own_test_says(method: str) -> None:
    assert own(method).counted, "at least one, on two encoders"
    for one in own(method).counted:
        assert len(one.numbers) > 1, one
        for size, numbers in one.numbers.items():
            assert Cue.registry[method].count(SIZES[size], one.settled(method, SIZES[size])) == numbers, one


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", EVERY_SIZE)
def test_every_formula_is_the_number_of_parameters_of_the_cue(size: str, method: str) -> None:
    dims = EVERY_SIZE[size]
    for one in own(method).counted:
        assert built(method, dims, one) == Cue.registry[method].count(dims, one.settled(method, dims)), one
