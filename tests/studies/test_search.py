"""Search: rungs keep the best third, budgets are kept, groups can share a loop, and a trial is
what training alone gives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from softcue.api import train
from softcue.errors import RequestError
from softcue.readers.splits import select
from softcue.studies.search import CUT, Budget, Runner, halve, here, read_budget, rung_sizes, search
from softcue.studies.space import Point, grid_points
from softcue.studies.trials import (
    SEATS_BY_DEVICE,
    Group,
    Outcome,
    Result,
    SearchObserver,
    Terms,
    Trial,
    draw,
    group_trials,
    make_job,
    mean,
    ranked,
    run_group,
)
from softcue.training.job import Job
from softcue.training.jobs import train_jobs
from tests.tiny_base import tiny_base, tiny_data

CALM: dict[str, Any] = {"backbone_dropout": False, "head_dropout": 0.0, "patience": 0, "batch": 16}
DATA = tiny_data("classify", train=200)
TERMS = Terms({DATA.name: DATA}, limit=32)
PROBES = grid_points(["bitfit"], {"rate": [1e-4 * 2**i for i in range(10)]}, CALM)


def pretend(terms: Terms, seconds: float = 1.0) -> tuple[Runner, list[Trial]]:
    """A runner that trains nothing: a point's score is its rate (the higher the better), and
    every example takes `seconds`.
    """
    seen: list[Trial] = []

    def run(groups: Sequence[Group]) -> Iterator[tuple[int, Result]]:
        for number, group in reversed(list(enumerate(groups))):
            seen.extend(group)
            outcomes = []
            for trial in group:
                rows = len(make_job(trial, terms).selection.train)  # type: ignore[union-attr]
                outcomes.append(Outcome(trial, trial.point.settings["rate"], 1, 0.0, trial.epochs or 1, rows))
            made = Result(tuple(outcomes), {}, 0.0)
            yield number, replace(made, seconds=seconds * made.examples)

    return run, seen


@pytest.mark.parametrize(
    ("points", "sizes"), [(1, [1]), (3, [3]), (4, [4, 2]), (9, [9, 3]), (27, [27, 9, 3]), (20, [20, 7, 3])]
)
def test_each_rung_keeps_a_third_until_at_most_three_are_left(points: int, sizes: list[int]) -> None:
    assert rung_sizes(points) == sizes


def test_the_best_third_goes_on_and_the_last_rung_trains_in_full() -> None:
    runner, seen = pretend(TERMS)
    rungs = halve(PROBES, [0, 1], TERMS, Budget(), "cpu", runner, SearchObserver())
    kept = [{o.trial.point.key for r in rung for o in r.outcomes} for rung in rungs]
    by_rate = sorted(PROBES, key=lambda point: -point.settings["rate"])
    assert kept == [{p.key for p in by_rate[:count]} for count in rung_sizes(len(PROBES))]
    assert {trial.epochs for trial in seen[-4:]} == {30}  # the preset's, for so few rows
    assert {trial.seed for trial in seen} == {0, 1}


def test_each_data_set_halves_by_itself() -> None:
    other = replace(tiny_data("classify", train=200, seed=1), name="other")
    terms = Terms({DATA.name: DATA, "other": other}, limit=32)
    runner, _ = pretend(terms)

    def contrary(groups: Sequence[Group]) -> Iterator[tuple[int, Result]]:
        for number, result in runner(groups):
            yield (
                number,
                replace(
                    result,
                    outcomes=tuple(
                        replace(o, score=-(o.score or 0) * (o.trial.data == "other")) for o in result.outcomes
                    ),
                ),
            )

    last = halve(PROBES, [0], terms, Budget(), "cpu", contrary, SearchObserver())[-1]
    rates = {o.trial.point.settings["rate"] for r in last for o in r.outcomes if o.trial.data == "other"}
    assert rates == {point.settings["rate"] for point in PROBES[: rung_sizes(len(PROBES))[-1]]}


def test_a_budget_of_examples_is_kept_where_shortest_trials_allow_it() -> None:
    runner, _ = pretend(TERMS)
    rungs = halve(PROBES, [0], TERMS, Budget(examples=20_000), "cpu", runner, SearchObserver())
    spent = [sum(result.examples for result in rung) for rung in rungs]
    assert sum(spent) <= 20_000
    assert sum(spent) > 12_000


def test_a_budget_of_time_is_kept_at_the_speed_that_was_measured() -> None:
    runner, _ = pretend(TERMS, seconds=0.01)
    rungs = halve(PROBES, [0], TERMS, Budget(seconds=300), "cpu", runner, SearchObserver())
    assert 200 < sum(result.seconds for rung in rungs for result in rung) < 300


def test_no_trial_is_longer_than_a_full_training_or_shorter_than_some_steps() -> None:
    for budget in (Budget(examples=1), Budget(examples=10**9)):
        runner, seen = pretend(TERMS)
        halve(PROBES, [0], TERMS, budget, "cpu", runner, SearchObserver())
        examples = {(trial.epochs or 0) * len(make_job(trial, TERMS).selection.train) for trial in seen}  # type: ignore[union-attr]
        assert max(examples) <= 30 * 180
        assert min(examples) >= 180  # 20 steps of 16 are more than an epoch: a whole number of them


def test_epochs_cannot_be_swept_by_halving_which_decides_on_them() -> None:
    runner, _ = pretend(TERMS)
    with pytest.raises(RequestError, match="halving decides on epochs"):
        halve(
            grid_points(["bitfit"], {"epochs": [1, 2]}, {}),
            [0],
            TERMS,
            Budget(),
            "cpu",
            runner,
            SearchObserver(),
        )


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("10m", Budget(seconds=600)),
        ("90s", Budget(seconds=90)),
        ("1.5h", Budget(seconds=5400)),
        ("200_000", Budget(examples=200_000)),
    ],
)
def test_budgets_are_read(text: str, budget: Budget) -> None:
    assert read_budget(text) == budget


@pytest.mark.parametrize("text", ["", "0", "-5m", "ten", "5d", "1e5", "0s", "m"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match=r"expected a time, as in 10m"):
        read_budget(text)


def test_a_packed_trial_gives_what_its_job_gives_alone() -> None:
    trials = tuple(Trial(point, DATA.name, seed, epochs=3) for point in PROBES[-2:] for seed in (0, 1))
    result = run_group(trials, TERMS, tiny_base())
    for trial, outcome in zip(trials, result.outcomes, strict=True):
        alone = train_jobs(
            [Job(DATA, "bitfit", {}, trial.training, trial.seed, limit=32, from_train=True)], tiny_base()
        )[0]
        assert outcome.score == alone.scores["selection"]
        assert outcome.step == alone.scores["selection_step"]
        assert outcome.rate == alone.training["rate"]


def test_a_trial_trains_on_no_row_that_selects_and_reports_on_none() -> None:
    job = make_job(Trial(PROBES[0], DATA.name, 3, 1, rows=50, select=10), TERMS)
    whole = select(DATA, 3, from_train=True)
    assert job.selection is not None
    assert (len(job.selection.train), len(job.selection.select), job.selection.report) == (50, 10, [])
    assert all(record in whole.train for record in job.selection.train)
    assert all(record in whole.select for record in job.selection.select)


def test_the_adapter_kept_is_the_best_seed_of_the_best_point() -> None:
    trials = tuple(Trial(point, DATA.name, seed, epochs=4) for point in PROBES[-2:] for seed in (0, 1, 2))
    result = run_group(trials, TERMS, tiny_base())
    winner = ranked(result.outcomes)[0]
    scores = [outcome.score for outcome in result.outcomes if outcome.trial.point.key == winner.key]
    adapter = result.adapters[DATA.name]
    assert adapter.scores["selection"] == max(score for score in scores if score is not None)
    assert adapter.training["rate"] == winner.settings["rate"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_point_that_diverges_takes_nobody_along() -> None:
    points = grid_points(
        ["bitfit"], {"rate": [1e-2, 900.0]}, {**CALM, "decay": 1e38, "schedule": "constant", "warmup": 0.0}
    )
    good = grid_points(["bitfit"], {"rate": [1e-2]}, CALM)
    trials = tuple(Trial(point, DATA.name, 0, epochs=3) for point in [*points[1:], *good])
    result = run_group(trials, TERMS, tiny_base())
    lost, kept = result.outcomes
    assert lost.score is None
    assert kept.score == run_group(trials[1:], TERMS, tiny_base()).outcomes[0].score
    with pytest.raises(RequestError, match="diverged at every point"):
        search(points[1:], [0], TERMS, "cpu", here(TERMS, tiny_base(), SearchObserver()), SearchObserver())


def test_points_rank_by_the_mean_over_seeds_and_a_seed_that_diverged_ranks_last() -> None:
    good, steady, lost = (Point("bitfit", {"rate": rate}) for rate in (1.0, 2.0, 3.0))
    scores = {good.key: [0.9, 0.1], steady.key: [0.6, 0.6], lost.key: [1.0, None]}
    points = {point.key: point for point in (lost, good, steady)}
    outcomes = [
        Outcome(Trial(points[key], "d", seed), score, 1, 1.0, 1, 1)
        for key in points
        for seed, score in enumerate(scores[key])
    ]
    assert [point.settings["rate"] for point in ranked(outcomes)] == [2.0, 1.0, 3.0]
    assert mean([1.0, None]) == float("-inf")


def test_groups_share_a_shape_hold_whole_points_and_stay_within_the_seats() -> None:
    points = grid_points(
        ["apt", "pasta"], {"rate": [1e-3 * i for i in range(1, 11)], "length": [2, 4]}, {"batch": 4}
    )
    trials = [Trial(point, DATA.name, seed) for point in points for seed in (0, 1, 2)]
    groups = group_trials(trials, TERMS, "cpu")
    assert sorted(map(repr, trials)) == sorted(repr(trial) for group in groups for trial in group)
    for group in groups:
        assert len({(trial.point.method, trial.point.settings.get("length")) for trial in group}) == 1
        assert len(group) <= SEATS_BY_DEVICE["cpu"]
        assert {sum(other.point.key == trial.point.key for other in group) for trial in group} == {3}
    assert len(group_trials(trials, TERMS, "cuda")) < len(groups)


def test_drawn_rows_are_the_same_each_time_and_in_their_order() -> None:
    records = DATA.splits["train"]
    few = draw(records, 20, 1)
    assert few == draw(records, 20, 1) != draw(records, 20, 2)
    assert [records.index(record) for record in few] == sorted(records.index(record) for record in few)
    assert draw(records, None, 0) is records


def test_auto_finds_a_rate_that_beats_a_poor_preset_and_says_which() -> None:
    told: list[str] = []
    state = torch.get_rng_state()
    adapter = train(
        DATA,
        backbone=tiny_base(),
        method="bitfit",
        settings={**CALM, "epochs": 4},
        limit=32,
        auto=0.02,
        say=told.append,
    )
    assert torch.equal(state, torch.get_rng_state())
    assert adapter.training["epochs"] == 4
    line = next(line for line in told if line.startswith("auto: "))
    assert f"rate {adapter.training['rate']:g}" in line


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"auto": 0.0}, "expected minutes"),
        ({"auto": float("nan")}, "expected minutes"),
        ({"auto": 1.0, "method": "full"}, "set rate yourself"),
        ({"auto": 1.0, "settings": {"rate": 0.1}}, "leave one of them out"),
    ],
)
def test_auto_refuses_what_leaves_nothing_to_search(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(RequestError, match=expected):
        train(DATA, backbone=tiny_base(), **given)


def test_a_rung_is_worth_about_as_much_as_the_next() -> None:
    assert CUT == 3
    runner, _ = pretend(TERMS)
    rungs = halve(PROBES[:9], [0], TERMS, Budget(), "cpu", runner, SearchObserver())
    first, last = (sum(result.examples for result in rung) for rung in rungs)
    assert abs(first / last - 1) < 0.2
