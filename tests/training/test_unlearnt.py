"""A run that learns nothing is told of, early and at its end; one that learns is not."""

import math

import pytest
import torch

from softcue.api import train
from softcue.kinds import KINDS
from softcue.kinds.record import IGNORED
from softcue.training.job import prepare
from tests.tiny_base import tiny_base, tiny_data
from tests.training.training_cases import CALM, job


def told_of(**training: object) -> list[str]:
    told: list[str] = []
    train(
        tiny_data(),
        backbone=tiny_base(),
        method="bitfit",
        settings={**CALM, "epochs": 15, "batch": 16, **training},
        say=told.append,
    )
    return [line for line in told if "learnt" in line]


def test_a_rate_that_teaches_nothing_is_told_of_within_the_first_tenth_and_at_the_end() -> None:
    early, late = told_of(rate=1e-9)
    assert early.startswith("warning: step 6 of 60: nothing is learnt yet (the loss is ")
    assert late.startswith("warning: nothing was learnt (the loss is ")
    assert "--auto MINUTES" in early and "--auto MINUTES" in late


def test_a_run_that_learns_ends_without_a_warning() -> None:
    assert [line for line in told_of(rate=3e-2) if "nothing was learnt" in line] == []


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_runs_of_any_length_are_judged(epochs: int) -> None:
    assert "nothing was learnt" in told_of(rate=1e-9, epochs=epochs)[-1]


def test_a_run_that_stops_early_is_judged_at_its_end() -> None:
    assert "nothing was learnt" in told_of(rate=1e-9, epochs=40, patience=2)[-1]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_blind_loss_is_the_least_of_one_answer_for_all(kind: str) -> None:
    """A head without weights, whose bias alone learns, comes down to it and not below."""
    prepared = prepare(job(tiny_data(kind)), tiny_base())
    blind = prepared.head.blind_loss([item.targets for item in prepared.items])
    assert blind > 0
    if kind == "choice":
        assert blind == pytest.approx(
            sum(math.log(len(item.targets)) for item in prepared.items) / len(prepared.items)
        )
        return
    if kind == "multilabel":
        rows = torch.zeros(len(prepared.items), 3, dtype=torch.float64)
        for row, item in enumerate(prepared.items):
            rows[row, list(item.targets[0])] = 1
        share = rows.mean(0)
        entropy = torch.nn.functional.binary_cross_entropy(share.expand(len(rows), -1), rows)
        assert blind == pytest.approx(float(entropy))
        return
    flat = [
        t
        for item in prepared.items
        for targets in item.targets
        for t in (targets if kind == "tag" else [targets])
    ]
    targets = torch.tensor([target for target in flat if target != IGNORED])
    constant = torch.zeros(prepared.head.bias.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([constant], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        if kind == "score":
            value = (constant - targets).square().mean()
        else:
            value = torch.nn.functional.cross_entropy(constant.expand(len(targets), -1), targets)
        value.backward()
        return value

    optimizer.step(loss)
    assert blind == pytest.approx(float(loss().detach()), abs=1e-4)
