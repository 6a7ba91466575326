"""Evaluation: answers do not depend on batches, order or company; scores are those of the metrics."""

import pytest
import torch
from torch import Tensor

from softcue.answering.evaluation import batches, decide, evaluate_seat, judge, run
from softcue.heads import Head
from softcue.model import Assignment, Model
from softcue.protocol import Cue
from softcue.readers.items import Item, Reading, make_items
from softcue.readers.records import Data, Record
from tests.contract.cases import randomise, settled
from tests.tiny_base import FILLER, tiny_base, tiny_data

KINDS = ("classify", "score", "choice", "tag", "multilabel")
METHODS = ("pasta", "prompt", "spt", "bitfit", "lora")


def crowd() -> tuple[Model, list[Item], list[int]]:
    """Five methods, each with a head of one kind; questions of all kinds in turn, one tagged
    text of several windows.
    """
    base, cues, heads, columns = tiny_base(), [], [], []
    dims = base.backbone.encoder.dims
    for number, (kind, method) in enumerate(zip(KINDS, METHODS, strict=True)):
        data = tiny_data(kind, train=9)
        head = Head(kind, dims.hidden, [max(1, len(data.labels))], "mean" if number % 2 else "cls")
        cue = Cue.registry[method](dims, settled(method, dims), 1)
        randomise(head, number)
        randomise(cue, number + 10)
        cues.append(cue)
        heads.append(head)
        records = data.splits["train"]
        if kind == "tag":
            records = [Record(tokens=FILLER * 6, tags=("O",) * 120), *records]
        columns.append(make_items(records, base.text, Reading(kind, data.labels, 32))[:9])
    model = Model(base.backbone.encoder, cues, heads, [Assignment(n, 0, n, 0) for n in range(len(KINDS))])
    mixed = [(item, seat) for row in zip(*columns, strict=True) for seat, item in enumerate(row)]
    return model.eval(), [item for item, _ in mixed], [seat for _, seat in mixed]


def close(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("budget", [1, 60, 300, 10**6])
def test_answers_do_not_depend_on_the_budget(budget: int) -> None:
    model, items, seats = crowd()
    close(
        run(model, items, seats, budget),
        [run(model, [item], [seat])[0] for item, seat in zip(items, seats, strict=True)],
    )


def test_answers_do_not_depend_on_the_order() -> None:
    model, items, seats = crowd()
    straight = run(model, items, seats, 200)
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = run(model, [items[i] for i in order], [seats[i] for i in order], 200)
    close(shuffled, [straight[i] for i in order])


def test_answers_have_the_shape_of_their_kind() -> None:
    model, items, seats = crowd()
    for item, seat, answer in zip(items, seats, run(model, items, seats), strict=True):
        words = len(item.targets[0]) if seat == 3 and item.answering is None else len(item.answering or ())
        assert (
            tuple(answer.shape)
            == {
                0: (3,),
                1: (),
                2: (len(item.examples),),
                3: (words, 5),
                4: (3,),
            }[seat]
        )
        if seat not in (1, 4):
            torch.testing.assert_close(answer.sum(-1), torch.ones(answer.shape[:-1]))


def test_the_model_is_left_in_the_mode_it_was_found_in() -> None:
    model, items, seats = crowd()
    for whole, encoder in ((True, False), (True, True), (False, False)):
        model.train(whole)
        model.encoder.train(encoder)
        answers = run(model, items, seats)
        assert (model.training, model.heads[0].training, model.encoder.training) == (whole, whole, encoder)
        close(answers, run(model.eval(), items, seats))


def test_batches_hold_every_item_once_within_the_budget() -> None:
    _, items, _ = crowd()
    for budget in (1, 50, 200, 10**6):
        found = list(batches(items, budget))
        assert sorted(number for batch in found for number in batch) == list(range(len(items)))
        assert all(len(batch) == 1 or sum(items[i].rows for i in batch) <= budget for batch in found)
    assert list(batches([], 100)) == []


def test_answers_become_what_the_metrics_compare() -> None:
    assert decide(torch.tensor([0.2, 0.7, 0.1]), Reading("classify", ("a", "b", "c"), 9)) == "b"
    # the head has room for a third
    assert decide(torch.tensor([0.1, 0.2, 0.7]), Reading("classify", ("a", "b"), 9)) == "b"
    assert decide(torch.tensor(1.5), Reading("score", (), 9, 3.0, 2.0)) == 6.0
    assert decide(torch.tensor([0.1, 0.9]), Reading("choice", (), 9)) == 1
    assert decide(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), Reading("tag", ("O", "B-X"), 9)) == ["O", "B-X"]


def test_a_label_that_train_lacks_counts_as_wrong() -> None:
    records = [Record(text="x", label="a"), Record(text="x", label="new"), Record(text="x", label="b")]
    data = Data("classify", {}, ("a", "b"), False, "set", ("accuracy", "macro_f1"))
    answers = [torch.tensor([0.9, 0.1]), torch.tensor([0.9, 0.1]), torch.tensor([0.1, 0.9])]
    scores = judge(answers, records, Reading("classify", ("a", "b"), 9), data)
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_an_entity_type_that_train_lacks_counts_as_missed() -> None:
    records = [Record(tokens=("a", "b"), tags=("B-NEW", "B-X"))]
    data = Data("tag", {}, ("O", "B-X"), False, "set", ("f1", "precision", "recall"))
    scores = judge([torch.tensor([[0.9, 0.1], [0.1, 0.9]])], records, Reading("tag", ("O", "B-X"), 9), data)
    assert (scores["precision"], scores["recall"]) == (1.0, 0.5)


def test_f1_is_measured_on_the_positive_label() -> None:
    records = [Record(text="x", label=label) for label in ("yes", "yes", "no", "no")]
    data = Data("classify", {}, ("no", "yes"), False, "set", ("f1",), positive="yes")
    answers = [torch.tensor(row) for row in ([0.1, 0.9], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9])]
    assert judge(answers, records, Reading("classify", ("no", "yes"), 9), data)["f1"] == pytest.approx(0.4)


def test_evaluate_scores_the_seat_that_it_is_asked_for() -> None:
    model, _, _ = crowd()
    data = tiny_data("classify")
    records, reading = data.splits["test"], Reading("classify", data.labels, 32)
    items = make_items(records, tiny_base().text, reading)
    right = [
        decide(a, reading) == r.label
        for a, r in zip(run(model, items, [0] * len(items)), records, strict=True)
    ]
    assert evaluate_seat(model, 0, items, records, reading, data)["accuracy"] == sum(right) / len(right)
