"""Class weights and the focal loss as settings: what they are computed from, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from softcue.errors import SettingsError
from softcue.readers.records import Data
from softcue.training.emphasis import class_weights
from softcue.training.job import Job, prepare
from softcue.training.jobs import train_jobs
from softcue.training.settings import Training
from tests.tiny_base import tiny_base, tiny_data
from tests.training.training_cases import job, logits, same, train


def rare() -> Data:
    """Texts of three labels, of which "metal" has 4 of 44 rows."""
    data = tiny_data("classify", train=60)
    kept = [r for r in data.splits["train"] if r.label != "metal"]
    few = [r for r in data.splits["train"] if r.label == "metal"][:4]
    return replace(data, splits={**data.splits, "train": [*kept, *few]})


def weights(data: Data, given: Any, kind: str = "classify") -> list[float]:
    return class_weights(prepare(job(data, class_weight=given), tiny_base())).tolist()


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    data = rare()
    assert weights(data, "balanced") == pytest.approx([44 / (3 * 20), 44 / (3 * 20), 44 / (3 * 4)])
    assert weights(data, {"metal": 5.0}) == [1.0, 1.0, 5.0]
    tags = class_weights(prepare(job(tiny_data("tag"), class_weight="balanced"), tiny_base()))
    assert tags[0] < 1 < tags[3]  # "O" is common, I-LOC is rare


def test_packed_jobs_with_weights_and_without_end_as_they_do_alone() -> None:
    data = rare()
    emphases: list[dict[str, Any]] = [
        {},
        {"class_weight": "balanced"},
        {"focal": 2.0},
        {"class_weight": {"bird": 3.0}},
    ]
    jobs = [job(data, seed=seed, epochs=1, **own) for seed, own in enumerate(emphases)]
    # two seats for four jobs: weights of who had a seat before are not those of the next
    for one, packed in zip(jobs, train_jobs(jobs, tiny_base(), seats=2), strict=True):
        for a, b in zip(logits(packed, data), logits(train(one), data), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    plain = train(job(data, seed=1, epochs=1))
    assert not same(plain, train(jobs[1]))


def test_a_weight_moves_answers_towards_its_label() -> None:
    data = rare()
    chances = []
    for weight in (0.01, 100.0):
        adapter = train(job(data, epochs=3, class_weight={"metal": weight}))
        chances.append(float(torch.stack(logits(adapter, data))[:, 2].mean()))
    assert chances[0] < chances[1] - 0.2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"class_weight": "even"}, "class_weight is 'even'; expected 'balanced' or an object that gives"),
        ({"class_weight": {"bird": "much"}}, "class_weight is .*; expected 'balanced' or an object"),
        ({"class_weight": {"bird": 0.0}}, "class_weight of bird is not above 0"),
        ({"focal": -1.0}, "focal is -1.0; expected at least 0"),
    ],
)
def test_weights_that_are_none_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Training(**given)


def test_weights_that_do_not_fit_the_data_are_refused_before_anything_trains() -> None:
    done: list[int] = []
    for data, given, told in (
        (tiny_data("score"), {"focal": 1.0}, "data of kind score; expected one label"),
        (tiny_data("choice"), {"class_weight": "balanced"}, "data of kind choice"),
        (tiny_data("classify"), {"class_weight": {"fish": 2.0}}, "has 'fish', which no training row has"),
    ):
        jobs = [job(tiny_data("classify"), epochs=1), Job(data, "lora", training=given)]
        with pytest.raises(SettingsError, match=told):
            train_jobs(jobs, tiny_base(), finished=lambda number, adapter: done.append(number))
    assert not done
