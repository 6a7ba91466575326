"""The loop: orders, rates, early stopping and the best step, seat by seat."""

from collections.abc import Sequence

import pytest
import torch

from scripts.kept_step import kept
from softcue.heads import Head
from softcue.model import Model
from softcue.protocol import Cue
from softcue.readers.items import Item, Reading, make_items
from softcue.rows import add_rows, read_rows
from softcue.training.loop import fit, restore, snapshot
from softcue.training.run import TrainingRun, by_length
from softcue.training.settings import Training
from tests.contract.cases import randomise, settled
from tests.tiny_base import tiny_base, tiny_data

CALM = {"backbone_dropout": False, "head_dropout": 0.0}
ROWS = 100  # that select
Numbers = list[list[torch.Tensor]]  # snapshots, one for each evaluation


def training(**changes) -> Training:
    return Training(**{"epochs": 4, "batch": 4, "rate": 1e-2, **CALM, **changes})


def items(count: int = 10, seed: int = 0) -> list[Item]:
    data = tiny_data("classify", train=count, seed=seed)
    return make_items(data.splits["train"], tiny_base().text, Reading("classify", data.labels, 32))


def model(seats: int) -> Model:
    encoder = tiny_base().backbone.encoder
    cue = Cue.registry["pasta"](encoder.dims, settled("pasta", encoder.dims), seats)
    head = Head("classify", encoder.dims.hidden, [3] * seats, "cls", 0.0)
    randomise(cue, 0)
    randomise(head, 1)
    return Model.single(encoder, cue, head, seats)


def scripted(scores: Sequence[float], seen: Numbers, whole: Model, seat: int, seats: int):
    """A score that follows a script and notes the numbers that it was given for."""
    script = iter(scores)

    def score() -> float:
        seen.append(snapshot(whole.tuned(), seat, seats))
        return next(script)

    return score


def same(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_numbers_left_in_each_seat_are_those_of_its_best_evaluation() -> None:
    whole = model(3)
    seen: list[Numbers] = [[], [], []]
    scripts = [(0.1, 0.9, 0.3, 0.2), (0.5, 0.4, 0.3, 0.2), (0.1, 0.2, 0.3, 0.4)]
    runs = [
        TrainingRun(s, items(), training(patience=0), scripted(scripts[s], seen[s], whole, s, 3), s, ROWS)
        for s in range(3)
    ]
    fit(whole, runs)
    assert [run.best for run in runs] == [0.9, 0.5, 0.4]
    assert [run.best_step for run in runs] == [6, 3, 12]
    for run, best in zip(runs, (1, 0, 3), strict=True):
        assert same(snapshot(whole.tuned(), run.seat, 3), seen[run.seat][best])
        assert not same(seen[run.seat][0], seen[run.seat][3])


def test_of_equal_scores_the_later_is_kept() -> None:
    whole = model(1)
    seen: Numbers = []
    run = TrainingRun(0, items(), training(), scripted((0.5, 0.5, 0.4, 0.5), seen, whole, 0, 1), 0, ROWS)
    fit(whole, [run])
    assert run.best_step == 12
    assert same(snapshot(whole.tuned(), 0, 1), seen[3])


@pytest.mark.parametrize(
    ("tolerance", "step"),
    [(0.0, 6), (1.0, 9), (2.0, 12)],  # of 0.8 with 100 rows the standard error is 0.04
)
def test_a_later_step_within_tolerance_of_the_best_is_kept(tolerance: float, step: int) -> None:
    whole = model(1)
    seen: Numbers = []
    run = TrainingRun(
        0,
        items(),
        training(tolerance=tolerance),
        scripted((0.5, 0.8, 0.77, 0.73), seen, whole, 0, 1),
        0,
        ROWS,
    )
    fit(whole, [run])
    assert (run.best_step, run.highest) == (step, 0.8)
    assert run.best == {6: 0.8, 9: 0.77, 12: 0.73}[step]
    assert same(snapshot(whole.tuned(), 0, 1), seen[step // 3 - 1])


@pytest.mark.parametrize(("tolerance", "patience"), [(0.0, 0), (0.0, 2), (1.0, 2), (2.0, 0), (2.0, 2)])
def test_the_script_that_compares_such_rules_applies_them_as_the_loop_does(
    tolerance: float, patience: int
) -> None:
    scores = 0.5, 0.8, 0.73, 0.77, 0.7, 0.69, 0.71, 0.75
    settings = {"tolerance": tolerance, "patience": patience, "epochs": len(scores)}
    run = TrainingRun(0, items(), training(**settings), scripted(scores, [], model(1), 0, 1), 0, ROWS)
    again = TrainingRun(0, items(), training(**settings), lambda: 0.0, 0, ROWS)
    fit(model(1), [run])
    assert (
        kept(
            again,
            [(score, 3.0 * number) for number, score in enumerate(scores, start=1)],
            tolerance,
            patience,
        )
        == run.best_step
    )


def test_tolerance_is_of_the_best_score_so_that_small_losses_do_not_add_up() -> None:
    whole = model(1)
    run = TrainingRun(
        0,
        items(),
        training(epochs=5, tolerance=1.0),
        scripted((0.8, 0.77, 0.74, 0.71, 0.68), [], whole, 0, 1),
        0,
        ROWS,
    )
    fit(whole, [run])
    assert run.best_step == 6


def test_more_rows_that_select_tell_smaller_differences() -> None:
    whole = model(1)
    run = TrainingRun(
        0, items(), training(tolerance=1.0), scripted((0.5, 0.8, 0.77, 0.73), [], whole, 0, 1), 0, 100 * ROWS
    )
    fit(whole, [run])
    assert run.best_step == 6


def test_a_run_stops_when_no_better_evaluation_came_for_its_patience() -> None:
    whole = model(2)
    seen: list[Numbers] = [[], []]
    falling = [1 - i / 100 for i in range(20)]
    runs = [
        TrainingRun(
            0, items(), training(epochs=20, patience=3), scripted(falling, seen[0], whole, 0, 2), 0, ROWS
        ),
        TrainingRun(
            1, items(), training(epochs=9, patience=0), scripted(falling, seen[1], whole, 1, 2), 1, ROWS
        ),
    ]
    fit(whole, runs)
    assert [run.step for run in runs] == [4 * 3, 9 * 3]
    assert all(run.done and run.best_step == 3 for run in runs)
    assert [len(run.history) for run in runs] == [4, 9]


def test_a_finished_run_stands_still_while_others_train() -> None:
    whole = model(2)
    seen: Numbers = []
    short = TrainingRun(0, items(), training(epochs=1, decay=0.5), lambda: 1.0, 0, ROWS)
    ended: list[list[torch.Tensor]] = []

    def note(run: TrainingRun) -> None:
        if short.done:
            ended.append(snapshot(whole.tuned(), 0, 2))

    long = TrainingRun(1, items(), training(epochs=5), scripted([0.0] * 5, seen, whole, 1, 2), 1, ROWS)
    fit(whole, [short, long], report=note)
    assert len(ended) > 10
    assert all(same(ended[0], later) for later in ended)


@pytest.mark.parametrize("group_by_length", [False, True])
@pytest.mark.parametrize(("count", "batch"), [(10, 4), (10, 10), (10, 64), (1, 8), (3, 1)])
def test_every_epoch_shows_every_item_once_in_an_order_of_its_own(
    count: int, batch: int, group_by_length: bool
) -> None:
    own = items(count)
    run = TrainingRun(0, own, training(batch=batch, group_by_length=group_by_length), lambda: 0.0, 7, ROWS)
    epochs = []
    for _ in range(3):
        epoch = []
        for _ in range(run.per_epoch):
            picked = run.next_items()
            assert 1 <= len(picked) <= batch
            epoch += [own.index(item) for item in picked]
            run.step += 1
        epochs.append(epoch)
    assert all(sorted(epoch) == sorted(own.index(item) for item in own) for epoch in epochs)
    assert count < 4 or not epochs[0] == epochs[1] == epochs[2]


def test_grouped_by_length_a_batch_holds_what_is_alike_and_batches_follow_by_chance() -> None:
    rows = [i % 30 + 3 for i in range(1003)]
    chance = torch.Generator().manual_seed(0)
    order = by_length(torch.randperm(len(rows), generator=chance).tolist(), rows, 10, chance)
    assert sorted(order) == list(range(len(rows)))
    batches = [[rows[i] for i in order[at : at + 10]] for at in range(0, len(order), 10)]
    assert max(max(batch) - min(batch) for batch in batches[:-1]) <= 3  # pools of 500 items of 30 lengths
    firsts = [batch[0] for batch in batches]
    assert firsts != sorted(firsts) and firsts != sorted(firsts, reverse=True)


def test_the_seed_decides_the_order() -> None:
    orders = [TrainingRun(0, items(), training(), lambda: 0.0, seed, ROWS).next_items() for seed in (3, 3, 4)]
    assert orders[0] == orders[1] != orders[2]


def test_runs_are_scored_once_an_epoch_but_not_much_more_often_than_forty_times() -> None:
    assert TrainingRun(0, items(), training(epochs=10), lambda: 0.0, 0, ROWS).every == 3
    assert TrainingRun(0, items(), training(epochs=400), lambda: 0.0, 0, ROWS).every == 30
    run = TrainingRun(0, items(2), training(epochs=61, batch=2, patience=0), lambda: 0.0, 0, ROWS)
    whole = model(1)
    fit(whole, [run])
    assert [entry["step"] for entry in run.history] == [*range(2, 61, 2), 61]


def test_the_history_holds_the_mean_loss_since_the_last_evaluation() -> None:
    whole = model(1)
    losses: list[float] = []
    run = TrainingRun(0, items(), training(epochs=2), lambda: 0.0, 0, ROWS)

    def note(run: TrainingRun) -> None:
        if run.step % 3:
            losses.append(float(run.loss))

    fit(whole, [run], report=note)
    assert len(run.history) == 2
    for entry, (first, second) in zip(
        run.history, ((losses[0], losses[1]), (losses[2], losses[3])), strict=True
    ):
        assert 0 < first < second < 3 * entry["loss"]


@pytest.mark.parametrize(
    ("schedule", "last"), [("linear", 1 / 12), ("constant", 1.0), ("exponential", 0.95**3)]
)
def test_the_rate_follows_the_schedule_of_the_run(schedule: str, last: float) -> None:
    run = TrainingRun(0, items(), training(schedule=schedule, warmup=0.0), lambda: 0.0, 0, ROWS)
    assert run.rate() == pytest.approx(1e-2)
    run.step = run.total - 1
    assert run.rate() == pytest.approx(1e-2 * last)
    run.done = True
    assert run.rate() == 0


@pytest.mark.parametrize("seats", [1, 2])
def test_the_head_learns_at_its_part_of_the_rate(seats: int) -> None:
    whole = model(seats)
    before, parts, heads = (
        [p.detach().clone() for p in whole.tuned()],
        (0.25, 0.5),
        {id(p) for p in whole.heads.parameters()},
    )
    # Adam's first is as long as the rate
    one_step: dict[str, float] = {"epochs": 1, "batch": 10, "warmup": 0.0}
    fit(
        whole,
        [
            TrainingRun(seat, items(), training(**one_step, head_rate=parts[seat]), lambda: 0.0, seat, ROWS)
            for seat in range(seats)
        ],
    )
    for was, now in zip(before, whole.tuned(), strict=True):
        for seat, part in enumerate(parts[:seats]):
            longest = float((now.detach() - was)[seat].abs().max())
            assert longest == pytest.approx(1e-2 * part if id(now) in heads else 1e-2, rel=1e-3)


def test_a_run_that_diverges_keeps_its_best_and_leaves_the_others_alone() -> None:
    whole, alone = model(2), model(2)
    seen: list[Numbers] = [[], []]
    wild = TrainingRun(0, items(), training(), scripted((0.5, 0.4, 0.3, 0.2), seen[0], whole, 0, 2), 0, ROWS)
    calm = TrainingRun(1, items(), training(), lambda: 0.0, 1, ROWS)

    def poison(run: TrainingRun) -> None:
        if run is wild and run.step == 4:
            with torch.no_grad():
                for parameter in whole.tuned():
                    parameter[0] = torch.nan

    fit(whole, [wild, calm], report=poison)
    assert wild.done and wild.step == 6 and wild.best_step == 3
    assert same(snapshot(whole.tuned(), 0, 2), seen[0][0])
    fit(alone, [TrainingRun(1, items(), training(), lambda: 0.0, 1, ROWS)])
    for ours, theirs in zip(snapshot(whole.tuned(), 1, 2), snapshot(alone.tuned(), 1, 2), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_run_that_diverges_at_once_stops_at_its_first_evaluation_without_best_values() -> None:
    whole = model(1)
    run = TrainingRun(0, items(), training(), lambda: 0.0, 0, ROWS)

    def poison(run: TrainingRun) -> None:
        with torch.no_grad():
            whole.head(0).weight.fill_(torch.nan)

    fit(whole, [run], report=poison)
    assert run.done and run.step == run.per_epoch < run.total
    assert not run.best_values and not run.history


@pytest.mark.parametrize("on", [True, False])
def test_backbone_dropout_is_on_while_training_only_if_asked_for(on: bool) -> None:
    whole, modes = model(1), []
    run = TrainingRun(0, items(), training(epochs=1, backbone_dropout=on), lambda: 0.0, 0, ROWS)
    fit(whole, [run], report=lambda run: modes.append((whole.training, whole.encoder.training)))
    assert set(modes) == {(True, on)}


def test_a_snapshot_is_a_copy_that_can_be_put_back() -> None:
    for seats in (1, 3):
        parameters = [torch.nn.Parameter(torch.randn(seats, 4)), torch.nn.Parameter(torch.randn(seats))]
        before = [p.detach().clone() for p in parameters]
        saved = snapshot(parameters, 0, seats)
        with torch.no_grad():
            for p in parameters:
                p.add_(1)
        restore(saved, parameters, 0, seats)
        for p, old in zip(parameters, before, strict=True):
            assert torch.equal(p[0], old[0])
            assert torch.equal(p[1:], old[1:] + 1)


def test_rows_that_a_broken_seat_does_not_have_do_not_break_the_first_row() -> None:
    """Rows of -1 are clamped to row 0, which is another seat's: not a number times zero would land there."""
    hidden = torch.ones(3, 2, requires_grad=True)
    row = torch.tensor([[0, -1], [1, -1]])
    delta = torch.stack([torch.zeros(2, 2), torch.full((2, 2), torch.nan)])
    added = add_rows(hidden, row, delta)
    assert torch.equal(added[0], hidden[0]) and added[1].isnan().all()
    broken = torch.tensor([[torch.nan, torch.nan], [1.0, 1.0]])
    assert torch.equal(read_rows(broken, torch.tensor([[1, -1]])), torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]))
