"""SeatAdamW against torch's AdamW and clip_grad_norm_, seat by seat; schedules against their definitions."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from softcue.training.optim import SeatAdamW, rate_factor

RATES, DECAYS, CLIPS = (1e-2, 3e-3, 1e-1), (0.1, 0.0, 0.5), (0.5, 2.0, float("inf"))
SHAPES = ((4, 5), (7,), (2, 3, 2))


def parameters(seats: int, seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(seats, *shape, generator=generator)) for shape in SHAPES]


def gradients(step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(3, *shape, generator=generator) * (1 + step % 3) for shape in SHAPES]


def step_with(optimizer: SeatAdamW, step: int, rates=RATES) -> torch.Tensor:
    for parameter, gradient in zip(optimizer.parameters, gradients(step), strict=True):
        parameter.grad = gradient.clone()
    return optimizer.step(torch.tensor(rates), torch.tensor(DECAYS), torch.tensor(CLIPS))


def test_twenty_steps_equal_torch_adamw_with_clipping_for_every_seat() -> None:
    ours = parameters(3)
    optimizer = SeatAdamW(ours, 3)
    theirs = [[nn.Parameter(p.detach()[seat].clone()) for p in ours] for seat in range(3)]
    peers = [torch.optim.AdamW(theirs[seat], lr=RATES[seat], weight_decay=DECAYS[seat]) for seat in range(3)]
    for step in range(20):
        norms = step_with(optimizer, step)
        for seat, peer in enumerate(peers):
            for parameter, gradient in zip(theirs[seat], gradients(step), strict=True):
                parameter.grad = gradient[seat].clone()
            torch.testing.assert_close(norms[seat], nn.utils.clip_grad_norm_(theirs[seat], CLIPS[seat]))
            peer.step()
    for seat in range(3):
        for own, other in zip(ours, theirs[seat], strict=True):
            torch.testing.assert_close(own[seat], other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seats", [1, 3])
def test_parameters_with_shares_equal_torch_with_groups_of_their_own_rates(seats: int) -> None:
    shares, head = [1.0, 0.03, None], 0.5
    ours, theirs = parameters(seats), parameters(seats)
    optimizer = SeatAdamW(ours, seats, shares)
    rates = [1e-2 * (head if share is None else share) for share in shares]
    peer = torch.optim.AdamW(
        [{"params": [p], "lr": rate} for p, rate in zip(theirs, rates, strict=True)], weight_decay=0.5
    )
    for step in range(10):
        for own, other, gradient in zip(ours, theirs, gradients(step), strict=True):
            own.grad, other.grad = gradient[:seats].clone(), gradient[:seats].clone()
        optimizer.step(*(torch.full((seats,), value) for value in (1e-2, 0.5, float("inf"), head)))
        peer.step()
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)


def test_a_rate_that_changes_every_step_equals_torch_with_that_rate() -> None:
    ours, theirs = parameters(1), parameters(1)
    optimizer, peer = SeatAdamW(ours, 1), torch.optim.AdamW(theirs, weight_decay=0.1)
    for step in range(10):
        rate = 1e-2 * rate_factor("linear", step, 10, 2, 5)
        for own, other in zip(ours, theirs, strict=True):
            own.grad = torch.full_like(own, 0.3 * step - 1)
            other.grad = own.grad.clone()
        peer.param_groups[0]["lr"] = rate
        optimizer.step(torch.tensor([rate]), torch.tensor([0.1]), torch.tensor([float("inf")]))
        peer.step()
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other)


def test_a_seat_of_rate_zero_does_not_move_a_bit() -> None:
    ours = parameters(3)
    optimizer = SeatAdamW(ours, 3)
    step_with(optimizer, 0)
    before = [p.detach().clone() for p in ours]
    for step in range(1, 6):
        step_with(optimizer, step, (1e-2, 0.0, 1e-2))
    for parameter, old in zip(ours, before, strict=True):
        assert torch.equal(parameter[1], old[1])
        assert not torch.equal(parameter[0], old[0])


def test_a_seat_that_diverged_leaves_the_others_alone() -> None:
    ours, calm = parameters(3), parameters(3)
    broken, sound = SeatAdamW(ours, 3), SeatAdamW(calm, 3)
    for step in range(3):
        for parameter, gradient in zip(ours, gradients(step), strict=True):
            parameter.grad = gradient.clone()
            parameter.grad[0] = torch.nan
        broken.step(torch.tensor(RATES), torch.tensor(DECAYS), torch.tensor(CLIPS))
        step_with(sound, step)
    for own, other in zip(ours, calm, strict=True):
        assert own[0].isnan().all()
        assert torch.equal(own[1:], other[1:])


def test_a_reset_seat_steps_like_a_new_optimizer() -> None:
    used, fresh = parameters(3), parameters(3, seed=1)
    optimizer = SeatAdamW(used, 3)
    for step in range(4):
        step_with(optimizer, step)
    optimizer.reset(1)
    with torch.no_grad():
        for own, other in zip(used, fresh, strict=True):
            own[1] = other[1]
    kept = [p.detach().clone() for p in used]
    step_with(optimizer, 9)
    step_with(SeatAdamW(fresh, 3), 9)
    for own, other, old in zip(used, fresh, kept, strict=True):
        torch.testing.assert_close(own[1], other[1])
        assert not torch.equal(own[0], old[0])


def test_gradients_are_cleared_and_a_missing_one_counts_as_zero() -> None:
    ours = parameters(3)
    optimizer = SeatAdamW(ours, 3)
    ours[0].grad = torch.ones_like(ours[0])
    before = ours[1].detach().clone()
    norm = optimizer.step(torch.tensor(RATES), torch.zeros(3), torch.ones(3))
    torch.testing.assert_close(norm, torch.full((3,), 20.0).sqrt())
    assert all(p.grad is None for p in ours)
    assert torch.equal(ours[1], before)


def test_warmup_rises_in_equal_steps_and_linear_falls_to_one_step_above_zero() -> None:
    factors = [rate_factor("linear", step, 20, 4, 5) for step in range(20)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    falls = [a - b for a, b in pairwise(factors[4:])]
    assert falls == pytest.approx([1 / 16] * 15)
    assert factors[-1] == pytest.approx(1 / 16)


def test_exponential_loses_a_twentieth_an_epoch_and_constant_nothing() -> None:
    assert [rate_factor("exponential", step, 12, 0, 4) for step in (0, 3, 4, 8)] == pytest.approx(
        [1, 1, 0.95, 0.95**2]
    )
    assert {rate_factor("constant", step, 12, 0, 4) for step in range(12)} == {1.0}


@pytest.mark.parametrize("schedule", ["linear", "exponential", "constant"])
def test_every_rate_of_a_run_is_positive(schedule: str) -> None:
    """A rate of 0 would freeze a seat that is still training."""
    for total in (1, 2, 7, 40):
        for warmup in range(total):
            assert all(0 < rate_factor(schedule, step, total, warmup, 3) <= 1 for step in range(total))


@pytest.mark.parametrize("clip", [0.1, float("inf")])
def test_a_gradient_of_few_rows_gives_what_the_whole_one_gives(clip: float) -> None:
    tables = [nn.Parameter(torch.randn(20, 3, generator=torch.Generator().manual_seed(0))) for _ in range(2)]
    optimizers = [SeatAdamW([table], 1) for table in tables]
    for token in (torch.tensor([3, 3, 7]), torch.tensor([0, 7, 19]), torch.tensor([5, 5, 5])):
        for table, optimizer, sparse in zip(tables, optimizers, (True, False), strict=True):
            torch.nn.functional.embedding(token, table, sparse=sparse).square().sum().backward()
            assert table.grad is not None and table.grad.is_sparse == sparse
            optimizer.step(torch.tensor([1e-2]), torch.tensor([0.1]), torch.tensor([clip]))
        torch.testing.assert_close(tables[0], tables[1], atol=1e-7, rtol=0)
    assert not optimizers[0].dense[0].any()


@pytest.mark.parametrize("seats", [1, 3])
def test_numbers_with_a_unit_move_as_those_of_torch_multiplied_by_it(seats: int) -> None:
    """x = unit * y, where torch trains y: AdamW's steps do not depend on the size of its gradients."""
    units = [torch.tensor([0.25, 1.0, 2.0, 0.5]).unsqueeze(-1), None, torch.full((2, 3, 2), 0.125)]
    ours = parameters(seats)
    optimizer = SeatAdamW(ours, seats)
    optimizer.measure(0, units)
    theirs = [
        nn.Parameter(p.detach()[0] / (1.0 if unit is None else unit))
        for p, unit in zip(ours, units, strict=True)
    ]
    untouched = [nn.Parameter(p.detach()[-1].clone()) for p in ours]
    peers = [torch.optim.AdamW(numbers, lr=1e-2, weight_decay=0.0) for numbers in (theirs, untouched)]
    for step in range(10):
        for own, other, last, gradient in zip(ours, theirs, untouched, gradients(step), strict=True):
            own.grad, other.grad, last.grad = (
                gradient[:seats].clone(),
                gradient[0].clone(),
                gradient[seats - 1].clone(),
            )
        optimizer.step(*(torch.full((seats,), value) for value in (1e-2, 0.0, float("inf"))))
        for peer in peers:
            peer.step()
    for own, other, last, unit in zip(ours, theirs, untouched, units, strict=True):
        torch.testing.assert_close(own[0], other * (1.0 if unit is None else unit), rtol=1e-5, atol=1e-5)
        if seats > 1:
            torch.testing.assert_close(own[-1], last, rtol=1e-5, atol=1e-5)


def test_the_next_job_of_a_seat_has_its_own_units() -> None:
    ours = parameters(2)
    optimizer = SeatAdamW(ours, 2)
    optimizer.measure(1, [torch.tensor(0.5), None, None])
    optimizer.measure(1, [None, None, torch.tensor(0.25)])
    assert [float(optimizer.units[i][1].mean()) for i in (0, 2)] == [1.0, 0.25]
    assert all(bool((unit[0] == 1).all()) for unit in optimizer.units.values())
