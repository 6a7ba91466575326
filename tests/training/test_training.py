"""Training end to end on a tiny base: it learns, repeats itself, packs, selects, and refuses
what it cannot do.
"""

import os
from dataclasses import replace
from typing import Any

import pytest
import torch

from softcue.adapter import Adapter
from softcue.errors import RequestError, SoftcueError
from softcue.readers.records import Record
from softcue.training.job import Job, Prepared, prepare
from softcue.training.jobs import train_jobs
from softcue.training.run import TrainingRun
from tests.tiny_base import FILLER, majority, tiny_base, tiny_data, without
from tests.training.training_cases import job, logits, same, train


@pytest.mark.parametrize(
    ("kind", "method"),
    [("classify", "lora"), ("choice", "pasta"), ("score", "spt"), ("tag", "lora"), ("multilabel", "pasta")],
)
def test_it_learns(kind: str, method: str) -> None:
    data = tiny_data(kind)
    adapter = train(job(data, method, epochs=30 if kind == "tag" else 15))
    if kind in ("classify", "choice"):
        assert adapter.scores["accuracy"] > majority(data) + 0.2
    else:
        # 0 for a constant answer; of labels the best constant one has 2 / 3
        assert adapter.scores[data.metric] > {"score": 0.5, "tag": 0.25, "multilabel": 0.8}[kind]
    assert adapter.scores["selection"] > 0.25
    assert (adapter.kind, adapter.method, adapter.measured) == (
        kind,
        method,
        "selected on dev, reported on test",
    )


def test_pairs_are_learnt_too() -> None:
    data = tiny_data("classify", pair=True)
    adapter = train(job(data, "pasta"))
    assert adapter.pair
    assert adapter.scores["accuracy"] > majority(data) + 0.2


def test_the_reported_scores_are_those_of_the_saved_numbers() -> None:
    data = tiny_data("classify")
    adapter = train(job(data, "pasta"))
    chosen = [adapter.labels[int(answer.argmax())] for answer in logits(adapter, data)]
    right = [label == record.label for label, record in zip(chosen, data.splits["test"], strict=True)]
    assert adapter.scores["accuracy"] == sum(right) / len(right)


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    """With every dropout on."""
    data = tiny_data("classify", train=20)
    jobs = [Job(data, "pasta", {}, {"epochs": 2, "batch": 8}, seed) for seed in (3, 3, 4)]
    torch.manual_seed(1)
    once = train(jobs[0])
    torch.manual_seed(2)  # whatever else the process has drawn
    twice, other = train(jobs[1]), train(jobs[2])
    assert same(once, twice) and once.scores == twice.scores
    assert not same(once, other)


def test_training_does_not_disturb_the_callers_random_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(Job(tiny_data("classify", train=8), "pasta", {}, {"epochs": 1}))
    assert torch.equal(torch.rand(3), expected)


def test_every_step_is_reported_with_its_job() -> None:
    data = tiny_data("classify", train=8, dev=4, test=4)
    seen: list[tuple[int, int]] = []

    def note(prepared: Prepared, run: TrainingRun) -> None:
        seen.append((prepared.job.seed, run.step))

    train_jobs([job(data, seed=seed, epochs=2, batch=4) for seed in (5, 6)], tiny_base(), note)
    assert seen == [(seed, step) for step in (1, 2, 3, 4) for seed in (5, 6)]


def test_rows_that_select_are_not_those_that_train_or_report() -> None:
    for data in (tiny_data(), without(tiny_data(), "test"), without(tiny_data(), "dev", "test")):
        chosen = prepare(job(data), tiny_base()).selection
        rows = [record.where for part in (chosen.train, chosen.select, chosen.report) for record in part]
        assert len(set(rows)) == len(rows)


def test_labels_that_train_lacks_count_as_wrong_and_do_not_stop_training() -> None:
    data = tiny_data("classify")
    foreign = [replace(record, label="unheard") for record in data.splits["test"][:12]]
    adapter = train(job(replace(data, splits={**data.splits, "test": [*foreign, *data.splits["test"][12:]]})))
    plain = train(job(data))
    assert same(adapter, plain) and adapter.labels == data.labels
    assert adapter.scores["accuracy"] <= 0.5


def test_a_train_row_whose_label_is_not_among_the_labels_is_not_learnt() -> None:
    data = tiny_data("classify", train=20)
    data.splits["train"][0] = replace(data.splits["train"][0], label="unheard")
    assert all(torch.isfinite(tensor).all() for tensor in train(job(data, epochs=2)).head.values())


@pytest.mark.parametrize("kind", ["classify", "score", "choice", "tag", "multilabel"])
def test_a_single_training_row_and_a_batch_larger_than_the_data_are_enough(kind: str) -> None:
    data = tiny_data(kind, train=1, dev=3, test=3)
    adapter = train(job(data, "pasta", epochs=2, batch=500))
    assert adapter.scores["selection_step"] <= 2
    assert all(torch.isfinite(answer).all() for answer in logits(adapter, data))


def test_scores_come_back_in_their_own_units() -> None:
    data = tiny_data("score")
    rows = {
        name: [replace(r, label=1000 + 5 * float(str(r.label))) for r in records]
        for name, records in data.splits.items()
    }
    adapter = train(job(replace(data, splits=rows), epochs=3))
    assert adapter.centre == pytest.approx(1010, abs=1) and adapter.spread == pytest.approx(
        5 * 2**0.5, rel=0.05
    )


def test_scores_that_are_all_equal_can_be_trained_on() -> None:
    data = tiny_data("score", train=6)
    data.splits["train"] = [replace(record, label=2.0) for record in data.splits["train"]]
    assert train(job(data, epochs=1)).spread == 1.0


def test_long_tagged_texts_train_and_are_not_called_truncated() -> None:
    data = tiny_data("tag", train=4, dev=2, test=2)
    long = Record(tokens=FILLER * 10, tags=("O",) * 200)
    data = replace(data, splits={name: [long, *rows] for name, rows in data.splits.items()})
    adapter = train_jobs([replace(job(data, epochs=1), limit=32)], tiny_base())[0]
    assert adapter.scores["truncated"] == 0
    assert [len(answer) for answer in logits(adapter, data)] == [
        len(record.tokens) for record in data.splits["test"]
    ]


def test_truncated_rows_are_counted() -> None:
    data = tiny_data("classify", train=4, dev=2, test=2)
    data.splits["test"][0] = replace(data.splits["test"][0], text="the " * 100)
    assert train(job(data, epochs=1)).scores["truncated"] == 1


def test_a_prompt_takes_its_room_from_the_limit() -> None:
    data = tiny_data("classify", train=4, dev=2, test=2)
    data.splits["train"][0] = replace(data.splits["train"][0], text="the " * 100)
    adapter = train(job(data, "prompt", settings={"length": 20}, epochs=1))
    assert adapter.limit == 64 - 20


def test_bfloat16_trains_float32_numbers() -> None:
    data = tiny_data("classify")
    adapter = train_jobs([job(data, "pasta")], tiny_base(precision="bfloat16"))[0]
    assert adapter.scores["accuracy"] > majority(data) + 0.2
    assert {tensor.dtype for tensor in (*adapter.cue.values(), *adapter.head.values())} == {torch.float32}
    assert adapter.fingerprint == tiny_base().fingerprint


def test_the_measured_plan_of_stp_is_the_tasks_own() -> None:
    data = tiny_data("classify", train=12, dev=3, test=3)
    adapter = train(job(data, "stp", epochs=1))
    assert len(adapter.config.place) == 3 and adapter.config.plan == "measured"


def test_the_backbone_is_left_as_it_was() -> None:
    encoder = tiny_base().backbone.encoder
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    train(job(tiny_data("classify", train=8), "bitfit", epochs=2, backbone_dropout=True))
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in encoder.parameters())
    assert not encoder.training


def test_an_adapter_can_be_saved_and_answers_the_same(tmp_path: os.PathLike[str]) -> None:
    data = tiny_data("tag", train=8, dev=3, test=3)
    adapter = train(job(data, "apt", settings={"length": 4}, epochs=1))
    loaded = Adapter.load(adapter.save(os.path.join(tmp_path, "saved")))
    assert all(torch.equal(a, b) for a, b in zip(logits(adapter, data), logits(loaded, data), strict=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "pastas"}, "method 'pastas' is unknown; expected one of .*pasta"),
        ({"settings": {"lenght": 3}}, "pasta has no setting lenght"),
        ({"settings": {"dropout": 2.0}}, "dropout is 2.0; expected less than 1"),
        ({"training": {"epoch": 3}}, "no epoch; they have"),
        ({"training": {"epochs": 0}}, "epochs is 0; expected at least 1"),
        ({"pooling": "max"}, "does not have pooling 'max'"),
        ({"limit": 2}, "2 tokens are left for an example"),
        ({"limit": 0}, "0 tokens are left for an example"),
        ({"method": "prompt", "settings": {"length": 62}}, "2 tokens are left for an example"),
        ({"method": "ptuning", "settings": {"length": 100}}, "tokens are left for an example"),
        ({"data": replace(tiny_data(), labels=())}, "names no labels"),
        ({"data": tiny_data(train=0)}, "no rows in train"),
        ({"data": without(tiny_data(), "train")}, "no train split"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        train(replace(Job(tiny_data(), training={"epochs": 1}), **change))


def test_a_rate_that_makes_numbers_overflow_is_a_refusal_or_a_sound_adapter() -> None:
    data = tiny_data("classify", train=16)
    try:
        adapter = train(job(data, "pasta", rate=999.0, clip=0, epochs=3))
    except SoftcueError:
        return
    assert all(torch.isfinite(tensor).all() for tensor in (*adapter.cue.values(), *adapter.head.values()))
