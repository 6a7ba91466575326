"""What holds for every registered method on every encoder family, a new method's included."""

import copy
import json
import tomllib
from dataclasses import asdict, replace

import pytest
import torch

from softcue.attention.attend import KERNELS
from softcue.heads import Head
from softcue.model import Model
from softcue.protocol import Cue
from softcue.training.loop import seat_losses
from softcue.training.optim import SeatAdamW
from tests.contract.cases import GRID, METHODS, SEATS, case, logits, make_model, settled
from tests.tiny import random_examples, tiny_encoder

grid = pytest.mark.parametrize(("family", "method"), GRID)


def close(ours, theirs, tolerance: float = 1e-5) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@grid
def test_mixed_batch_equals_one_example_at_a_time(family: str, method: str) -> None:
    c = case(family, method)
    with torch.no_grad():
        mixed = logits(c.model, c.examples, SEATS)
        alone = [
            logits(c.model, [example], [seat])[0] for example, seat in zip(c.examples, SEATS, strict=True)
        ]
    close(mixed, alone)


@grid
def test_adapters_give_different_answers(family: str, method: str) -> None:
    c = case(family, method)
    with torch.no_grad():
        first, second = (
            torch.stack([row[:2] for row in logits(c.model, c.examples, [seat] * 7)]) for seat in (0, 1)
        )
    assert (first - second).abs().max() > 1e-3


@grid
def test_order_of_examples_does_not_matter(family: str, method: str) -> None:
    c = case(family, method)
    order = [4, 2, 6, 0, 3, 1, 5]
    with torch.no_grad():
        straight = logits(c.model, c.examples, SEATS)
        shuffled = logits(c.model, [c.examples[i] for i in order], [SEATS[i] for i in order])
    close(shuffled, [straight[i] for i in order])


@grid
def test_gradient_touches_only_the_seats_in_the_batch(family: str, method: str) -> None:
    c = case(family, method)
    sum(row.square().sum() for row in logits(c.model, c.examples[:3], [0, 2, 0])).backward()
    for name, parameter in c.model.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, name
        elif parameter.grad is not None:
            assert not parameter.grad[1].any(), f"{name}: seat 1 was not in the batch"
    assert all(p.grad is not None and p.grad[0].any() for p in c.model.heads.parameters())


@grid
def test_packed_training_equals_separate_training(family: str, method: str) -> None:
    """Three steps with dropout off: every number of every seat as if it had trained alone."""
    encoder = tiny_encoder(family)
    packed = make_model(encoder, method)
    alone = [copy_of_seat(packed, seat) for seat in range(3)]
    steps = [random_examples(family, (7, 4, 9), seed) for seed in range(3)]
    rates = [1e-2, 3e-3, 1e-3]
    train_steps(packed, [[(e, seat) for seat in range(3) for e in examples] for examples in steps], rates)
    for seat, model in enumerate(alone):
        train_steps(model, [[(e, 0) for e in examples] for examples in steps], [rates[seat]])
        with torch.no_grad():
            close(logits(packed, steps[0], [seat] * 3), logits(model, steps[0], [0] * 3), 1e-4)


def copy_of_seat(model: Model, seat: int) -> Model:
    cue, head = model.mixture.cues[0], model.heads[0]
    single = type(cue)(model.encoder.dims, cue.config, 1)
    single_head = Head("classify", model.encoder.dims.hidden, [int(head.classes[seat])], head.pooling)
    with torch.no_grad():
        for ours, theirs in zip(single.parameters(), cue.parameters(), strict=True):
            ours.copy_(theirs[seat : seat + 1])
        for ours, theirs in zip(single_head.parameters(), head.parameters(), strict=True):
            ours.copy_(theirs[seat : seat + 1, : ours.shape[1]])
    return Model.single(model.encoder, single, single_head).eval()


def train_steps(model: Model, steps, rates) -> None:
    """Evaluation mode: no dropout; losses, clipping and rates per seat."""
    optimizer = SeatAdamW(model.tuned(), len(rates))
    for step in steps:
        examples, seats = [e for e, _ in step], [s for _, s in step]
        batch = model.pack(examples, seats)
        losses = seat_losses(model(batch), [len(e.token) % 2 for e in examples], batch.seat, len(rates))
        losses.sum().backward()
        optimizer.step(torch.tensor(rates), torch.full((len(rates),), 0.01), torch.ones(len(rates)))


@grid
def test_every_parameter_has_the_seat_axis_first_and_none_is_shared(family: str, method: str) -> None:
    c = case(family, method)
    cue = c.model.mixture.cues[0]
    assert all(p.shape[0] == 3 for p in [*cue.parameters(), *c.model.heads.parameters()])
    frozen = {p.untyped_storage().data_ptr() for p in c.model.encoder.parameters()}
    for parameter in cue.parameters():
        assert parameter.requires_grad
        assert parameter.untyped_storage().data_ptr() not in frozen, "shares memory with the backbone"
    stores = [p.untyped_storage().data_ptr() for p in cue.parameters()]
    assert len(set(stores)) == len(stores), "two parameters share memory"
    assert not any(p.requires_grad for p in c.model.encoder.parameters())


@grid
def test_training_leaves_the_backbone_alone(family: str, method: str) -> None:
    c = case(family, method)
    before = copy.deepcopy(c.model.encoder.state_dict())
    train_steps(c.model, [[(e, s) for e, s in zip(c.examples, SEATS, strict=True)]] * 2, [1e-2] * 3)
    after = c.model.encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@grid
def test_seats_do_not_share_memory(family: str, method: str) -> None:
    c = case(family, method)
    with torch.no_grad():
        before = logits(c.model, c.examples, [1] * 7)
        for parameter in [*c.model.mixture.cues.parameters(), *c.model.heads.parameters()]:
            parameter[0] += 1.0
            parameter[2] -= 1.0
        close(logits(c.model, c.examples, [1] * 7), before, 0.0)


@grid
def test_kernels_agree(family: str, method: str) -> None:
    c = case(family, method)
    results = []
    for kernel in KERNELS:
        c.model.encoder.kernel = kernel
        with torch.no_grad():
            results.append(logits(c.model, c.examples, SEATS))
    for other in results[1:]:
        close(results[0], other)


@grid
def test_bfloat16_stays_close(family: str, method: str) -> None:
    """Bound: bfloat16 keeps 8 bits, so a few per cent of the spread of the float32 logits."""
    c = case(family, method)
    with torch.no_grad():
        exact = torch.cat(logits(c.model, c.examples, SEATS))
        c.model.encoder.to(torch.bfloat16)
        rough = torch.cat(logits(c.model, c.examples, SEATS))
    assert rough.isfinite().all()
    assert (rough - exact).abs().mean() < 0.05 * exact.std() + 0.02


@pytest.mark.parametrize("method", METHODS)
def test_config_survives_json_and_toml(method: str) -> None:
    config = settled(method, tiny_encoder("bert").dims)
    cls = Cue.registry[method].Config
    assert cls(**json.loads(json.dumps(asdict(config)))) == config
    told = "\n".join(f"{k} = {json.dumps(v)}" for k, v in asdict(config).items() if v is not None)
    assert cls(**tomllib.loads(told)) == config
    assert replace(config) == config


@pytest.mark.parametrize("method", METHODS)
def test_training_mode_uses_the_dropout_that_the_config_names(method: str) -> None:
    encoder = tiny_encoder("bert")
    names = [
        name
        for name in Cue.registry[method].per_seat_names(settled(method, encoder.dims))
        if "dropout" in name
    ]
    model = make_model(encoder, method, **dict.fromkeys(names, 0.5))
    examples = random_examples("bert", (7, 5))
    model.mixture.train()
    with torch.no_grad():
        torch.manual_seed(0)
        first = torch.cat(logits(model, examples, [0, 1]))
        second = torch.cat(logits(model, examples, [0, 1]))
    assert torch.equal(first, second) == (not names)
