"""Multi-label: records of all forms, the loss, the threshold, answers, metrics and packing."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from softcue import api
from softcue.adapter import Adapter
from softcue.answering.answers import ask, say
from softcue.answering.evaluation import decide, judge
from softcue.batch import pack
from softcue.errors import AdapterError, RequestError
from softcue.heads import Head
from softcue.kinds import KINDS
from softcue.kinds.record import Reading, Record
from softcue.readers import Data, read_data
from softcue.readers.items import make_items
from softcue.scoring.metrics import scores
from softcue.scoring.report import report, report_table
from softcue.studies.compare import majority
from softcue.training.job import Job
from softcue.training.jobs import train_jobs
from softcue.training.linear import minimise
from tests.adapter.adapter_cases import build, make
from tests.test_heads import output, slow_logits, slow_rows, slow_seat_mean
from tests.tiny import random_examples
from tests.tiny_base import tiny_base, tiny_data
from tests.training.test_linear import head_of, made, random_values
from tests.training.training_cases import calm, job, logits, same, train

OWN = KINDS["multilabel"]
READING = Reading("multilabel", ("a", "b", "c"), 64)


def labels_of(path: Path, **how: Any) -> list[tuple[str, ...]]:
    data = read_data(path, **how)
    assert data.kind == "multilabel" and data.labels == ("a", "b", "c")
    return [record.labels for record in data.splits["train"]]


def test_labels_are_a_list_a_cell_or_a_column_for_each(tmp_path: Path) -> None:
    rows = [("one", ["a", "b"]), ("two", []), ("three", ["c"])]
    for name in ("list", "cell", "json", "columns"):
        (tmp_path / name).mkdir()
    (tmp_path / "list" / "train.jsonl").write_text(
        "".join(json.dumps({"text": text, "labels": labels}) + "\n" for text, labels in rows)
    )
    (tmp_path / "cell" / "train.csv").write_text("text,labels\none,a | b\ntwo,\nthree,c\n")
    (tmp_path / "json" / "train.tsv").write_text('text\tlabels\none\t["a", "b"]\ntwo\t[]\nthree\t["c"]\n')
    (tmp_path / "columns" / "train.csv").write_text("text,a,b,c\none,1,true,0\ntwo,0,0.0,0\nthree,0,0,1.0\n")
    wanted = [tuple(labels) for _, labels in rows]
    for name in ("list", "cell", "json"):
        assert labels_of(tmp_path / name) == wanted
    assert labels_of(tmp_path / "columns", columns={"labels": "a,b,c"}) == wanted


def test_whole_numbers_are_labels_in_their_order_and_pairs_are_read(tmp_path: Path) -> None:
    rows = [{"text": "a", "text_pair": "b", "labels": [10, 2]}, {"text": "c", "text_pair": "d", "labels": []}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = read_data(tmp_path)
    assert data.labels == ("2", "10") and data.pair
    assert data.metrics == ("micro_f1", "macro_f1", "exact_match")


def test_a_row_with_a_label_beside_its_labels_is_one_of_classes(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "x", "label": "a", "labels": ["b"]}\n' * 2)
    assert read_data(tmp_path).kind == "classify"
    assert read_data(tmp_path, kind="multilabel").labels == ("b",)
    assert read_data(tmp_path, columns={"labels": "labels"}).kind == "multilabel"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"labels": ["a", "a"]}, "labels name 'a' twice"),
        ({"labels": ["a", " "]}, "a label is empty"),
        ({"labels": [1.5]}, "a label is a float (1.5); expected a string"),
        ({"labels": [True]}, "a label is a bool"),
        ({"labels": 3}, "labels is 3; expected a list"),
        ({"labels": "[broken"}, "broken JSON"),
        ({"labels": None}, "labels is empty"),
    ],
)
def test_what_is_wrong_with_labels_is_told_by_line(row: dict[str, Any], told: str, tmp_path: Path) -> None:
    rows = [{"text": "x", "labels": ["a"]}, {"text": "y", **row}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    with pytest.raises(RequestError, match=r"train\.jsonl:2") as caught:
        read_data(tmp_path)
    assert told in str(caught.value)


def test_columns_that_hold_no_0_or_1_or_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,a,b\nx,1,2\n")
    with pytest.raises(RequestError, match="column 'b' is '2'; expected 0 or 1"):
        read_data(tmp_path, columns={"labels": "a,b"})
    with pytest.raises(RequestError, match="'c' missing; the row has"):
        read_data(tmp_path, columns={"labels": "a,c"})


def test_data_without_any_label_are_refused() -> None:
    rows = [Record(text="a"), Record(text="b")] * 10
    with pytest.raises(RequestError, match="names no labels"):
        train(job(Data("multilabel", {"train": rows}, (), False, "none", ("micro_f1",))))


def test_the_loss_is_the_mean_over_a_seats_own_labels() -> None:
    from softcue.training.loop import seat_losses

    classes, seats = (2, 5, 3), (2, 0, 1, 2, 0, 1, 1)
    torch.manual_seed(0)
    head = Head("multilabel", 6, classes, "mean").eval()
    batch = pack(random_examples("bert", (9, 3, 14, 6, 5, 11, 8)), seats, (0,) * 7, 0, None)
    hidden = torch.randn(len(batch.token), 6)
    targets = [(0, 2), (), (4, 1), (1,), (0, 1), (0, 1, 2, 3, 4), ()]
    logits, values = head(hidden, batch, None), []
    for b, i in enumerate(batch.order):
        own = slow_logits(head, seats[i], slow_rows(batch, hidden)[i].mean(0))
        truth = torch.tensor([float(label in targets[i]) for label in range(len(own))])
        chance = own.sigmoid()
        each = -(truth * chance.log() + (1 - truth) * (1 - chance).log())
        values += [(seats[i], one) for one in each]
        assert (logits[b, len(own) :] == -torch.inf).all()
    losses = seat_losses(output(head, batch, logits), targets, batch.seat, 3)
    torch.testing.assert_close(losses, slow_seat_mean(values))
    losses.sum().backward()
    assert torch.isfinite(head.weight.grad).all()
    assert not head.weight.grad[0, 2:].any(), "labels that the seat does not have learn nothing"


def test_the_probe_is_a_logistic_regression_for_each_label() -> None:
    x = random_values(200)
    y = (x[:, :3] + 0.5 * random_values(200, 15)[:, 12:]) > 0.3
    head = head_of("multilabel", 12, 3)
    minimise(head, made(x, [(tuple(row.nonzero().flatten().tolist()),) for row in y]), 10.0)
    for label in range(3):
        rival = LogisticRegression(C=0.1, tol=1e-8, max_iter=5_000).fit(x.numpy(), y[:, label].numpy())
        chance = (x @ head.weight[0, label] + head.bias[0, label]).sigmoid()
        np.testing.assert_allclose(chance.detach().numpy(), rival.predict_proba(x.numpy())[:, 1], atol=2e-3)


def random_sets(draw: random.Random, count: int, labels: str) -> list[frozenset[str]]:
    return [frozenset(label for label in labels if draw.random() < 0.4) for _ in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_scikit_learns(seed: int) -> None:
    draw = random.Random(seed)
    gold, predicted = random_sets(draw, 40, "abcd"), random_sets(draw, 40, "bcde")
    binary = MultiLabelBinarizer().fit([*gold, *predicted])
    a, b = binary.transform(gold), binary.transform(predicted)
    found = scores("multilabel", OWN.metrics, gold, predicted)
    assert found == pytest.approx(
        {
            "micro_f1": f1_score(a, b, average="micro", zero_division=0),
            "macro_f1": f1_score(a, b, average="macro", zero_division=0),
            "exact_match": (a == b).all(1).mean(),
        }
    )
    each = dict(zip(binary.classes_, f1_score(a, b, average=None, zero_division=0), strict=True))
    told = report("multilabel", gold, predicted, labels=("a", "b", "c", "d", "unseen"))
    assert told["labels"] == ["a", "b", "c", "d", "unseen", "e"]
    assert {name: row["f1"] for name, row in told["per_label"].items()} == pytest.approx(
        {**each, "unseen": 0}
    )
    assert "confusion" not in told
    assert "micro_f1" in report_table(told)


def test_rows_without_any_label_score_nothing_but_a_match() -> None:
    none = [frozenset[str]()] * 3
    assert scores("multilabel", OWN.metrics, none, none) == {"micro_f1": 0, "macro_f1": 0, "exact_match": 1}


@pytest.mark.parametrize("seed", range(6))
def test_the_threshold_has_the_highest_micro_f1_of_all(seed: int) -> None:
    generator, draw = torch.Generator().manual_seed(seed), random.Random(seed)
    gold = random_sets(draw, 30, "abcx")  # x: a label that train lacks
    # a head with room for a fourth label; no two probabilities are equal
    answers = list(((torch.randperm(120, generator=generator) + 1) / 122).view(30, 4))
    reading = OWN.tuned(READING, answers, gold)

    def micro(threshold: float) -> float:
        predicted = [decide(answer, replace(READING, threshold=threshold)) for answer in answers]
        return scores("multilabel", ["micro_f1"], gold, predicted)["micro_f1"]

    assert 0 < reading.threshold < 1
    assert micro(reading.threshold) == max(micro(i / 1_000) for i in range(1_001))
    margin = min(abs(float(chance) - reading.threshold) for answer in answers for chance in answer[:3])
    assert margin > 4e-6, "rounding in another batch changes no decision"


def test_where_nothing_can_be_chosen_the_threshold_is_a_half() -> None:
    equal = [torch.zeros(3), torch.zeros(3)]
    assert OWN.tuned(READING, equal, [frozenset("a"), frozenset()]).threshold == 0.5
    assert OWN.tuned(READING, [torch.rand(3)], [frozenset()]).threshold == 0.5
    assert OWN.tuned(READING, [torch.full((3,), torch.nan)], [frozenset("a")]).threshold == 0.5


def test_an_answer_has_labels_of_at_least_the_threshold_in_their_order() -> None:
    question = ask({"text": "a"}, replace(READING, threshold=0.3), False, tiny_base().text)
    told = say(torch.tensor([0.9, 0.1, 0.4, 0.99]), question)  # a head with room for a fourth
    assert told == {"labels": ["a", "c"], "scores": pytest.approx({"a": 0.9, "b": 0.1, "c": 0.4})}
    assert list(told["scores"]) == ["a", "b", "c"]
    json.dumps(told)
    assert decide(torch.tensor([0.0, 0.0, 0.2]), READING) == frozenset()


def test_labels_that_train_lacks_are_not_learnt_and_count_as_missed() -> None:
    record = Record(text="apple", labels=("new", "b"))
    assert make_items([record], tiny_base().text, READING)[0].targets == ((1,),)
    data = Data("multilabel", {}, ("a", "b", "c"), False, "set", ("micro_f1",))
    assert judge([torch.tensor([0.0, 1.0, 0.0])], [record], READING, data) == {
        "micro_f1": pytest.approx(2 / 3)
    }


def test_the_threshold_is_chosen_on_selection_rows_saved_and_used(tmp_path: Path) -> None:
    data = tiny_data("multilabel", pair=True)
    adapter = train(job(data, "pasta", epochs=4))
    assert adapter.pair and adapter.threshold != 0.5
    loaded = Adapter.load(adapter.save(tmp_path / "adapter"))
    assert loaded.threshold == adapter.threshold
    dev = api.evaluate(loaded, data, split="dev", backbone=tiny_base())
    assert dev.scores["micro_f1"] == pytest.approx(adapter.scores["selection"])
    half = api.evaluate(replace(loaded, threshold=0.5), data, split="dev", backbone=tiny_base())
    assert half.scores["micro_f1"] <= dev.scores["micro_f1"]
    request = {"text": "the apple", "text_pair": "an owl"}
    (answer,) = api.predict(loaded, [request], backbone=tiny_base())
    assert answer["labels"] == [label for label, p in answer["scores"].items() if p >= adapter.threshold]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": math.nan}, "threshold"),
        ({"threshold": "high"}, "threshold is 'high'; expected a number"),
        ({"threshold": 0.4, "kind": "classify"}, "expected 0 to 1 for multilabel, else 0.5"),
    ],
)
def test_a_threshold_that_no_adapter_has_is_refused(
    changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    adapter = make(**{"kind": "multilabel", **changes})
    with pytest.raises(AdapterError, match=told):
        adapter.save(tmp_path / "adapter")
    assert build(kind="multilabel")[1].kind == "multilabel"


def test_packed_jobs_of_other_kinds_and_label_counts_train_as_alone() -> None:
    one, few = (tiny_data("multilabel", train=24, dev=6, test=6, seed=seed) for seed in (0, 1))
    rows = {
        split: [replace(record, labels=tuple(set(record.labels) - {"metal"})) for record in records]
        for split, records in few.splits.items()
    }
    jobs = [
        job(one, "pasta", 0, calm("pasta"), epochs=4, batch=8),
        job(
            replace(few, labels=("bird", "fruit"), splits=rows), "pasta", 1, calm("pasta"), epochs=4, batch=8
        ),
        job(tiny_data("classify", train=24, dev=6, test=6), "pasta", 2, calm("pasta"), epochs=4, batch=8),
    ]
    for own, packed in zip(jobs, train_jobs(jobs, tiny_base()), strict=True):
        alone = train(own)
        for a, b in zip(logits(packed, own.data), logits(alone, own.data), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        assert packed.threshold == pytest.approx(alone.threshold, abs=1e-3)
    assert same(train(jobs[0]), train(jobs[0]))


def test_the_majority_is_the_best_constant_set() -> None:
    records = [Record(text="a", labels=own) for own in (("x", "y"), ("x", "y"), ("x",), (), ("z",))]
    data = Data(
        "multilabel", {"train": records * 10, "test": records}, ("x", "y", "z"), False, "d", ("micro_f1",)
    )
    best = OWN.commonest(records)
    sets = [frozenset(own) for own in ("", "x", "y", "z", "xy", "xz", "yz", "xyz")]
    gold = [frozenset(record.labels) for record in records]
    found = {own: scores("multilabel", ["micro_f1"], gold, [own] * 5)["micro_f1"] for own in sets}
    assert found[best] == max(found.values())
    assert majority(data, 0, tiny_base().text) == {"micro_f1": pytest.approx(found[best])}


def test_the_probe_and_full_fine_tuning_take_it() -> None:
    data = tiny_data("multilabel", train=30, dev=9, test=9)
    probe = train_jobs([Job(data, "probe")], tiny_base())[0]
    assert probe.scores["micro_f1"] > 0.5
    from softcue.training.full import train_full

    full = train_full(Job(data, "full", training={"epochs": 1}), tiny_base())
    assert set(OWN.metrics) <= set(full.adapter.scores)
