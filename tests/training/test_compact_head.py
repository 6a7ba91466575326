"""A large head is saved in the fewest bytes that leave the reported scores alone."""

import pytest
import torch

from softcue.adapter import Adapter
from softcue.adapter.compact import as_stored
from softcue.answering.evaluation import evaluate_seat
from softcue.answering.seating import seat_adapters
from softcue.answering.served import reading_of
from softcue.readers.items import make_items
from softcue.training import finished
from softcue.training.finished import smallest
from softcue.training.job import Job
from softcue.training.jobs import train_jobs
from tests.tiny_base import tiny_base, tiny_data


def trained() -> Adapter:
    return train_jobs([Job(tiny_data("classify"), "probe")], tiny_base())[0]


def test_a_small_head_stays_as_it_is() -> None:
    assert trained().head_precision == "float32"


def test_the_scores_in_the_header_are_those_of_the_rounded_head(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = trained()
    monkeypatch.setattr(finished, "LARGE_HEAD", 8)
    adapter, base, data = trained(), tiny_base(), tiny_data("classify")
    assert adapter.head_precision == "int8"
    assert torch.equal(adapter.head["weight"], as_stored(exact.head["weight"], "int8"))
    records, reading = data.splits["test"], reading_of(adapter)
    items = make_items(records, base.text, reading)
    found = evaluate_seat(seat_adapters(base, [adapter]), 0, items, records, reading, data)
    assert found.items() <= adapter.scores.items()
    assert all(abs(found[name] - exact.scores[name]) <= finished.MOST_CHANGE for name in found)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([0.001], "int8"),
        ([0.003, 0.002], "float16"),
        ([-0.003, -0.001], "float16"),
        ([0.003, -0.003], "float32"),
        ([float("nan"), float("nan")], "float32"),
    ],
)
def test_the_smallest_that_changes_no_metric_by_more_is_kept(changes: list[float], expected: str) -> None:
    exact = trained()
    adapter = Adapter(**{**vars(exact), "scores": {"accuracy": 0.5, "f1": 0.5, "selection": 0.9}})
    model, tried = seat_adapters(tiny_base(), [adapter]), []
    own = slice(len(adapter.labels))  # the head that serves has spare rows

    def score() -> dict[str, float]:
        tried.append(model.head(0).weight[0, own].clone())
        return {"accuracy": 0.5, "f1": 0.5 + changes[len(tried) - 1]}

    made = smallest(adapter, model, 0, score)
    assert made.head_precision == expected
    assert len(tried) == len(changes)
    for weight, precision in zip(tried, ("int8", "float16"), strict=False):
        assert torch.equal(weight, as_stored(exact.head["weight"], precision))
    assert torch.equal(model.head(0).weight[0, own], exact.head["weight"]), "the seat's head is as it was"
    assert made.scores["selection"] == 0.9
    assert made.scores["f1"] == (0.5 if expected == "float32" else 0.5 + changes[-1])
