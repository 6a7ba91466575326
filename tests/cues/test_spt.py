"""SPT against its published equation and loss written the slow way, and its noise and numerics."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from softcue.batch import Example, pack
from softcue.protocol import Cue, Dims, Prefix
from tests.cues.cue_cases import (
    BERT_BASE,
    BERT_LARGE,
    FAMILIES,
    SEATS,
    TOTALS,
    Counted,
    Own,
    agree,
    build,
    case,
    close,
    count,
    forward,
    gradients,
    same,
    tables,
    texts,
)
from tests.encoder.slow_bert import encode

LENGTH = 5
OWN = Own(
    small={"length": LENGTH},
    counted=[Counted({"length": 20}, {"bert-base": 368_640, "bert-large": 983_040})],
    refused=[({"tau": float("nan")}, "tau is nan; expected a number")],
)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tau", [8.0, 0.0, -1.5])
def test_spt_equals_its_published_equation_in_outputs_and_gradients(family: str, tau: float) -> None:
    def slow(model: PreTrainedModel, cue: Cue, seat: int, example: Example) -> Tensor:
        return encode(
            model, example, front=tables(cue.kv[seat]), gate=lambda score: torch.sigmoid(tau * score)
        )

    agree(family, build("spt", case(family)[1], length=LENGTH, tau=tau), slow)


def test_spt_gates_by_the_tau_of_each_seat() -> None:
    model, encoder = case("bert")
    cue = build("spt", encoder, length=LENGTH)
    for seat, tau in enumerate((1.0, 4.0, 16.0)):
        cue.configure(seat, type(cue).Config(length=LENGTH, tau=tau))
    fast = forward(encoder, cue, texts("bert"), SEATS)
    for seat, example, out in zip(SEATS, texts("bert"), fast, strict=True):
        tau = (1.0, 4.0, 16.0)[seat]
        close(
            [out],
            [
                encode(
                    model, example, front=tables(cue.kv[seat]), gate=lambda s, tau=tau: torch.sigmoid(tau * s)
                )
            ],
        )


def test_spt_without_its_gate_is_ptuning_without_shift() -> None:
    _, encoder = case("bert")
    spt = build("spt", encoder, length=LENGTH)
    ptuning = build("ptuning", encoder, length=LENGTH, shift=False)
    spt.prefix = lambda layer, hidden, ctx: Prefix(*spt.kv[ctx.batch.seat, layer].unbind(1))  # type: ignore[method-assign]
    same(encoder, texts("bert"), spt, ptuning, 1e-6)


def slow_selective_loss(kv: Tensor) -> Tensor:
    """Section 3.1: over layers, both tables and unordered pairs i < j, |n_i .

    n_j|, divided by L P (P - 1).
    """
    layers, _, length = kv.shape[:3]
    total = torch.zeros(())
    for layer in range(layers):
        for table in kv[layer].flatten(2):
            unit = [row / torch.sqrt((row * row).sum() + 1e-8) for row in table]
            for i in range(length):
                for j in range(i + 1, length):
                    total = total + (unit[i] @ unit[j]).abs()
    return total / (layers * length * (length - 1))


def test_spt_adds_its_selective_loss_per_example_only_while_training() -> None:
    _, encoder = case("bert")
    cue = build("spt", encoder, length=LENGTH, key_dropout=0.0, score_dropout=0.0)
    for seat, weight in enumerate((0.5, 1.0, 2.0)):
        cue.configure(
            seat, type(cue).Config(length=LENGTH, diversity=weight, key_dropout=0.0, score_dropout=0.0)
        )
    batch = pack(texts("bert"), SEATS)
    assert encoder(batch, cue)[1].losses == []
    cue.train()
    penalty = torch.stack(encoder(batch, cue)[1].losses).sum(0)  # (B,)
    slowly = torch.stack([(0.5, 1.0, 2.0)[seat] * slow_selective_loss(cue.kv[seat]) for seat in batch.seats])
    close([penalty], [slowly])
    close(torch.autograd.grad(penalty.sum(), cue.kv), torch.autograd.grad(slowly.sum(), cue.kv))


def test_spt_with_one_prefix_token_has_no_selective_loss_rather_than_nan() -> None:
    _, encoder = case("bert")
    cue = build("spt", encoder, length=1)
    cue.train()
    hidden, ctx = encoder(pack(texts("bert"), SEATS), cue)
    assert ctx.losses == []
    assert bool(hidden.isfinite().all())


def test_spt_stays_finite_where_the_published_logarithm_of_the_gate_underflows() -> None:
    _, encoder = case("bert")
    cue = build("spt", encoder, length=LENGTH, tau=16.0)
    with torch.no_grad():
        cue.kv.mul_(1000)
    outputs = forward(encoder, cue, texts("bert"), SEATS)
    assert all(bool(out.isfinite().all()) for out in outputs)
    assert all(bool(g.isfinite().all()) for g in gradients(outputs, cue))


def test_a_dropped_gate_logit_of_spt_is_a_gate_of_one_half() -> None:
    _, encoder = case("bert")
    cue = build("spt", encoder, adapters=2, length=LENGTH, tau=2.0, score_dropout=0.5)
    cue.train()
    logit = torch.full((2, 4, 50, LENGTH), 3.0)
    gate = cue.gate(torch.tensor([0, 1]), logit, torch.tensor([0, 1])).exp()
    dropped = (gate - 0.5).abs() < 1e-6
    close([gate[~dropped]], [torch.full_like(gate[~dropped], float(torch.sigmoid(torch.tensor(12.0))))])
    assert float(dropped.float().mean()) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("dims", "checkpoint", "length", "numbers", "share"),
    [
        (BERT_LARGE, "bert-large-cased", 20, 983_040, 0.295),
        (BERT_LARGE, "bert-large-cased", 40, 1_966_080, 0.589),
        (BERT_LARGE, "bert-large-cased", 128, 6_291_456, 1.89),
        (BERT_BASE, "bert-base-cased", 8, 147_456, 0.136),
        (BERT_BASE, "bert-base-cased", 20, 368_640, 0.340),
    ],
)
def test_spt_has_the_documented_numbers_and_shares(
    dims: Dims, checkpoint: str, length: int, numbers: int, share: float
) -> None:
    assert count("spt", dims, length=length) == numbers
    assert 100 * numbers / TOTALS[checkpoint] == pytest.approx(share, abs=0.005 if share > 1 else 0.0005)
