"""Heads: pooling, logits and losses against the same written one example at a time."""

import math
import random

import pytest
import torch
from torch import Tensor

from softcue.batch import Batch, Example, pack
from softcue.heads import Head, pool
from softcue.kinds import KINDS
from softcue.kinds.choice import within_groups
from softcue.kinds.record import IGNORED
from softcue.model import HeadOutput, Model, Output
from softcue.protocol import Cue
from softcue.training.loop import seat_losses
from tests.contract.cases import randomise, settled
from tests.tiny import random_examples, tiny_encoder

WIDTH, CLASSES, SEATS = 6, (2, 5, 3), (2, 0, 1, 2, 0, 1, 1)
LENGTHS = (9, 3, 14, 6, 5, 11, 8)


def setting(
    kind: str,
    pooling: str = "mean",
    reserve: tuple[int, ...] = (0, 2, 0, 3, 1, 0, 0),
    group: list[int] | None = None,
):
    """A random head of three seats, a batch of seven examples under them, and random hidden states."""
    torch.manual_seed(0)
    head = Head(kind, WIDTH, CLASSES if KINDS[kind].has_labels else (1, 1, 1), pooling)
    randomise(head, 1)
    examples = random_examples("bert", LENGTHS)
    batch = pack(examples, SEATS, reserve, 0, group)
    return head.eval(), examples, batch, torch.randn(len(batch.token), WIDTH)


def slow_rows(batch: Batch, hidden: Tensor) -> list[Tensor]:
    """Each example's hidden states without its reserved rows, in the order of the request."""
    rows: list[Tensor] = [hidden] * len(batch)
    for b, part in enumerate(hidden.split(batch.lengths)):
        rows[int(batch.order[b])] = part[int((batch.reserved[b] >= 0).sum()) :]
    return rows


def slow_logits(head: Head, seat: int, vector: Tensor) -> Tensor:
    classes = int(head.classes[seat])
    return head.weight[seat, :classes] @ vector + head.bias[seat, :classes]


def output(head: Head, batch: Batch, logits: Tensor, penalty: Tensor | None = None) -> Output:
    part = HeadOutput(head, batch, torch.arange(len(batch)), torch.empty(0), logits)
    return Output((part,), torch.zeros(len(batch)) if penalty is None else penalty)


def slow_seat_mean(values: list[tuple[int, Tensor]]) -> Tensor:
    return torch.stack(
        [torch.stack([v for seat, v in values if seat == s] or [torch.zeros(())]).mean() for s in range(3)]
    )


def test_mean_counts_text_and_special_rows_and_no_reserved_ones() -> None:
    _, _, batch, hidden = setting("classify")
    pooled = pool(hidden, batch, "mean", None)
    for b, i in enumerate(batch.order):
        torch.testing.assert_close(pooled[b], slow_rows(batch, hidden)[i].mean(0))


def test_cls_is_the_first_special_token_behind_the_reserved_rows() -> None:
    _, _, batch, hidden = setting("classify")
    pooled = pool(hidden, batch, "cls", None)
    for b, i in enumerate(batch.order):
        assert torch.equal(pooled[b], slow_rows(batch, hidden)[i][0])


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("method", ["prompt", "gpc"])
def test_a_prompt_is_not_pooled(method: str, pooling: str) -> None:
    """With the text's own rows known from the encoder, the logits follow from them alone."""
    encoder = tiny_encoder("bert")
    cue = Cue.registry[method](encoder.dims, settled(method, encoder.dims), 1)
    randomise(cue, 0)
    head = Head("classify", encoder.dims.hidden, [3], pooling)
    model = Model.single(encoder, cue, head).eval()
    examples = random_examples("bert", (5, 9))
    batch = model.pack(examples, [0, 0])
    with torch.no_grad():
        hidden, _ = encoder(batch, model.mixture)
        logits = model(batch).parts[0].logits
        for i, rows in enumerate(hidden.split(batch.lengths)):
            text = rows[cue.reserve :]
            assert cue.reserve > 0 and len(text) == len(examples[batch.order[i]].token)
            vector = text[0] if pooling == "cls" else text.mean(0)
            torch.testing.assert_close(logits[i], slow_logits(head, 0, vector), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_class_logits_and_losses_are_the_seats_own(pooling: str) -> None:
    head, _, batch, hidden = setting("classify", pooling)
    targets = [1, 0, 4, 2, 1, 3, 0]
    logits = head(hidden, batch, None)
    values = []
    for b, i in enumerate(batch.order):
        rows = slow_rows(batch, hidden)[i]
        own = slow_logits(head, SEATS[i], rows[0] if pooling == "cls" else rows.mean(0))
        torch.testing.assert_close(logits[b, : len(own)], own)
        assert (logits[b, len(own) :] == -torch.inf).all()
        values.append((SEATS[i], -own.log_softmax(-1)[targets[i]]))
    losses = seat_losses(output(head, batch, logits), targets, batch.seat, 3)
    torch.testing.assert_close(losses, slow_seat_mean(values))


def test_score_losses_are_the_seats_mean_squared_errors() -> None:
    head, _, batch, hidden = setting("score")
    targets = [0.5, -1.0, 2.0, 0.0, 0.25, 1.5, -0.5]
    logits = head(hidden, batch, None)
    assert logits.shape == (7,)
    slow = [
        (SEATS[i], (slow_logits(head, SEATS[i], slow_rows(batch, hidden)[i].mean(0))[0] - targets[i]) ** 2)
        for i in range(7)
    ]
    torch.testing.assert_close(
        seat_losses(output(head, batch, logits), targets, batch.seat, 3), slow_seat_mean(slow)
    )


def test_an_unknown_label_costs_nothing_and_is_not_counted() -> None:
    head, _, batch, hidden = setting("classify")
    logits = head(hidden, batch, None)
    targets = [1, IGNORED, 4, 2, 1, IGNORED, 0]
    known = [i for i in range(7) if targets[i] != IGNORED]
    row = {int(i): logits[b] for b, i in enumerate(batch.order)}
    slow = [(SEATS[i], -row[i].log_softmax(-1)[targets[i]]) for i in known]
    torch.testing.assert_close(
        seat_losses(output(head, batch, logits), targets, batch.seat, 3), slow_seat_mean(slow)
    )


WEIGHTS = torch.tensor([[3.0, 0.5, 1, 1, 1], [1.0, 2.0, 0.2, 4.0, 0.7], [1.0, 1.0, 1.0, 1, 1]])
FOCAL = (0.0, 2.0, 0.5)


def slow_emphasised(rows: list[tuple[int, Tensor, int]]) -> Tensor:
    """Each seat's sum of w (1 - p)^focal -log p over its sum of w; (seat, logits, target) for each row."""
    means = []
    for seat in range(3):
        total = weight = torch.zeros(())
        for own, logits, target in rows:
            if own == seat and target != IGNORED:
                chance = logits.softmax(-1)[target]
                total = total - WEIGHTS[seat, target] * (1 - chance) ** FOCAL[seat] * chance.log()
                weight = weight + WEIGHTS[seat, target]
        means.append(total / weight if weight > 0 else total)
    return torch.stack(means)


def emphasised(head: Head) -> None:
    for seat in range(3):
        head.emphasise(seat, WEIGHTS[seat, : CLASSES[seat]], FOCAL[seat])


def test_class_weights_and_focal_losses_are_the_seats_own() -> None:
    head, _, batch, hidden = setting("classify")
    emphasised(head)
    targets = [1, 0, 4, 2, IGNORED, 3, 0]
    logits = head(hidden, batch, None)
    row = {int(i): logits[b] for b, i in enumerate(batch.order)}
    slow = slow_emphasised([(SEATS[i], row[i], targets[i]) for i in range(7)])
    losses = seat_losses(output(head, batch, logits), targets, batch.seat, 3)
    torch.testing.assert_close(losses, slow)
    first = [i for i in range(7) if SEATS[i] == 0]  # without a focal loss it is torch's own
    own = torch.stack([row[i][: CLASSES[0]] for i in first])
    wanted = torch.tensor([targets[i] for i in first])
    theirs = torch.nn.functional.cross_entropy(
        own, wanted, weight=WEIGHTS[0, : CLASSES[0]], ignore_index=IGNORED
    )
    torch.testing.assert_close(losses[0], theirs)


def test_class_weights_of_tags_count_words() -> None:
    head, examples, batch, hidden = setting("tag")
    emphasised(head)
    chance = random.Random(0)
    targets = [[chance.randrange(CLASSES[s]) for _ in e.word] for s, e in zip(SEATS, examples, strict=True)]
    logits = head(hidden, batch, None)
    rows, at = [], 0
    for b, i in enumerate(batch.order):
        for place in range(batch.words[b]):
            rows.append((SEATS[i], logits[at], targets[i][place]))
            at += 1
    losses = seat_losses(output(head, batch, logits), targets, batch.seat, 3)
    torch.testing.assert_close(losses, slow_emphasised(rows))


def test_the_slope_of_a_focal_loss_is_a_number_where_the_answer_is_certain() -> None:
    head = Head("classify", WIDTH, [3, 3], "cls")
    head.emphasise(0, torch.ones(3), 0.5)
    batch = pack(random_examples("bert", (5, 6)), (0, 1))
    logits = torch.tensor([[90.0, 0.0, 0.0], [90.0, 0.0, 0.0]], requires_grad=True)
    losses, _ = head.loss(logits, torch.tensor([0, 0]), batch)
    losses.sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_a_seat_whose_every_label_is_unknown_has_no_loss_and_a_gradient_of_zero() -> None:
    head, _, batch, hidden = setting("classify")
    targets = [IGNORED if seat == 1 else 1 for seat in SEATS]
    losses = seat_losses(output(head, batch, head(hidden, batch, None)), targets, batch.seat, 3)
    losses.sum().backward()
    assert losses[1] == 0 and losses[0] > 0
    assert not head.weight.grad[1].any() and head.weight.grad[0].any()
    assert torch.isfinite(head.weight.grad).all()


def test_tag_losses_are_means_over_the_words_of_a_seat_that_have_a_label() -> None:
    head, examples, batch, hidden = setting("tag")
    chance = random.Random(0)
    targets = [[chance.choice([0, 1, IGNORED]) for _ in example.word] for example in examples]
    logits = head(hidden, batch, None)
    rows, values = slow_rows(batch, hidden), []
    for i, example in enumerate(examples):
        for place, tag in zip(example.word, targets[i], strict=True):
            if tag != IGNORED:
                values.append((SEATS[i], -slow_logits(head, SEATS[i], rows[i][place]).log_softmax(-1)[tag]))
    assert len(values) > 10
    torch.testing.assert_close(
        seat_losses(output(head, batch, logits), targets, batch.seat, 3), slow_seat_mean(values)
    )


def test_tags_of_words_that_truncation_cut_are_left_out() -> None:
    example = Example([2, 8, 9, 3], [0] * 4, [0, 3], [1, 2])
    head = Head("tag", WIDTH, [3], "mean")
    assert head.target([[1, 2, 0, 1]], pack([example])).tolist() == [1, 2]


def questions() -> tuple[list[int], list[int]]:
    """(seat, question) of each choice, the choices of a question apart from each other."""
    return [2, 0, 2, 1, 0, 1, 1], [0, 1, 0, 2, 1, 2, 2]


def test_choice_losses_compare_the_choices_of_a_question_only() -> None:
    torch.manual_seed(0)
    head = Head("choice", WIDTH, (1, 1, 1), "mean").eval()
    seats, group = questions()
    batch = pack(random_examples("bert", LENGTHS), seats, group=group)
    hidden = torch.randn(len(batch.token), WIDTH)
    logits = head(hidden, batch, None)
    targets, slow = [0, 1, 1, 0, 0, 1, 0], []
    row = {int(i): logits[b] for b, i in enumerate(batch.order)}
    for question in range(3):
        members = [i for i in range(7) if group[i] == question]
        chance = torch.stack([row[i] for i in members]).log_softmax(0)
        slow.append((seats[members[0]], -chance[[targets[i] for i in members].index(1)]))
    torch.testing.assert_close(
        seat_losses(output(head, batch, logits), targets, batch.seat, 3), slow_seat_mean(slow)
    )


def test_choices_are_answered_in_the_order_in_which_they_were_asked() -> None:
    head = Head("choice", WIDTH, (1, 1, 1), "mean").eval()
    seats, group = questions()
    batch = pack(random_examples("bert", LENGTHS), seats, group=group)
    wanted = [0.3, -1.0, 2.0, 0.0, 0.5, 1.0, -2.0]
    answers = dict(head.answers(torch.tensor([wanted[i] for i in batch.order]), batch))
    for question in range(3):
        asked = torch.tensor([wanted[i] for i in range(7) if group[i] == question])
        torch.testing.assert_close(answers[question], asked.softmax(0))


def test_within_groups_survives_large_and_missing_numbers() -> None:
    logits = torch.tensor([1e4, 1e4 - 1, -1e4], requires_grad=True)
    chance = within_groups(logits, torch.tensor([5, 5, 2]), 6)  # groups 0, 1, 3 and 4 have no entries
    torch.testing.assert_close(
        chance.detach(), torch.tensor([-math.log1p(math.exp(-1)), -1 - math.log1p(math.exp(-1)), 0.0])
    )
    chance[0].backward()
    share = math.exp(-1) / (1 + math.exp(-1))
    torch.testing.assert_close(logits.grad, torch.tensor([share, -share, 0.0]))


def test_penalties_are_averaged_over_the_examples_of_a_seat() -> None:
    head, _, batch, hidden = setting("score")
    penalty = torch.arange(7.0)
    logits, targets = head(hidden, batch, None), [0.0] * 7
    plain = seat_losses(output(head, batch, logits), targets, batch.seat, 3)
    with_penalty = seat_losses(output(head, batch, logits, penalty), targets, batch.seat, 3)
    slow = slow_seat_mean([(seat, penalty[b]) for b, seat in enumerate(batch.seats)])
    torch.testing.assert_close(with_penalty - plain, slow)


def test_a_seat_that_is_not_in_the_batch_has_no_loss() -> None:
    head, _, batch, hidden = setting("score")
    losses = seat_losses(output(head, batch, head(hidden, batch, None)), [1.0] * 7, batch.seat, 5)
    assert losses.shape == (5,) and not losses[3:].any() and losses[:3].all()


def test_windows_of_one_text_are_answered_one_after_the_other() -> None:
    head = Head("tag", WIDTH, [2, 2], "mean").eval()
    examples = [Example([2, 7, 8, 3], [0] * 4, [0, 3], [1, 2]), Example([2, 9, 3], [0] * 3, [0, 2], [1])] * 2
    batch = pack(examples, [1, 1, 0, 0], group=[0, 0, 1, 1])
    logits = torch.stack([batch.token[batch.word].float(), torch.zeros(6)], 1)
    answers = dict(head.answers(logits, batch))
    for question in (0, 1):
        torch.testing.assert_close(answers[question][:, 0], torch.tensor([7.0, 8.0, 9.0]).sigmoid())


def test_dropout_acts_while_training_and_can_be_switched_off() -> None:
    _, _, batch, hidden = setting("classify")
    for rate, differs in ((0.5, True), (0.0, False)):
        head = Head("classify", WIDTH, CLASSES, "mean", rate)
        torch.manual_seed(0)
        trained, answered = head.train()(hidden, batch, None), head.eval()(hidden, batch, None)
        assert (not torch.equal(trained, answered)) == differs


def test_every_kind_of_record_has_a_head() -> None:
    assert set(KINDS) == {"classify", "score", "choice", "tag", "multilabel"}
    for kind in KINDS:
        assert Head(kind, 4, [1], "cls").kind == kind
