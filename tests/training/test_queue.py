"""A queue of jobs over fewer seats: every job ends as if it had the encoder to itself, and a
seat keeps nothing of whom it had before.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from softcue.adapter import Adapter
from softcue.errors import DivergedError, RequestError
from softcue.readers.items import make_items
from softcue.training import job as preparing
from softcue.training import jobs as training
from softcue.training.checkpoint import Checkpoints
from softcue.training.job import Job, Prepared, prepare
from softcue.training.jobs import Report, groups_of, open_seats, start, train_jobs
from softcue.training.run import TrainingRun
from softcue.training.shared import Shared
from tests.tiny_base import tiny_base, tiny_data
from tests.training.training_cases import calm, job, logits, same


def seven(method: str) -> list[Job]:
    """Jobs of one shape that differ in data, kind, labels, pooling, length, rate, schedule,
    clipping and early stopping.
    """
    few = tiny_data("classify", train=24, dev=6, test=6)
    rows = {
        name: [record for record in records if record.label != "metal"]
        for name, records in few.splits.items()
    }
    two = replace(few, labels=("bird", "fruit"), name="two", splits=rows)
    off = calm(method)
    return [
        job(two, method, 0, off, epochs=6, batch=8, clip=0.1),
        job(few, method, 1, off, epochs=2, batch=8),
        job(
            tiny_data("score", train=30, dev=6, test=6),
            method,
            2,
            off,
            epochs=4,
            batch=8,
            schedule="constant",
            decay=0.1,
        ),
        replace(job(few, method, 3, off, epochs=9, batch=8, patience=2), pooling="mean"),
        job(tiny_data("tag", train=20, dev=6, test=6), method, 4, off, epochs=5, batch=4, warmup=0.3),
        job(few, method, 5, off, epochs=7, batch=16, rate=3e-3, decay=0.1),
        job(two, method, 6, off, epochs=3, batch=8),
    ]


@pytest.mark.parametrize("method", ["pasta", "lora"])
def test_seven_jobs_on_three_seats_end_as_each_alone(method: str) -> None:
    jobs = seven(method)
    seats: set[int] = set()
    order: list[int] = []

    def note(prepared: Prepared, run: TrainingRun) -> None:
        seats.add(run.seat)

    queued = train_jobs(
        jobs, tiny_base(), note, seats=3, finished=lambda number, adapter: order.append(number)
    )
    assert len({prepare(one, tiny_base()).shape for one in jobs}) == 1
    assert seats == {0, 1, 2} and sorted(order) == list(range(7)) and order[0] == 1
    for one, ours in zip(jobs, queued, strict=True):
        alone = train_jobs([one], tiny_base())[0]
        assert (ours.seed, ours.labels, ours.pooling) == (one.seed, alone.labels, alone.pooling)
        assert ours.scores["selection_step"] == alone.scores["selection_step"]
        for a, b in zip(logits(ours, one.data), logits(alone, one.data), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_one_seat_is_enough_for_all_and_gives_the_very_bits_of_single_runs() -> None:
    jobs = [replace(one, seed=0) for one in seven("pasta")[:2]]
    for ours, one in zip(train_jobs(jobs[:1] + jobs[:1], tiny_base(), seats=1), [jobs[0]] * 2, strict=True):
        assert same(ours, train_jobs([one], tiny_base())[0])


def test_a_seat_that_diverged_passes_nothing_on() -> None:
    """The first job's loss is no number at once; who follows it in its seat ends as if alone."""
    data = tiny_data("classify", train=24, dev=6, test=6)
    jobs = [job(data, "pasta", seed, calm("pasta"), epochs=3, batch=8) for seed in range(3)]
    ends: dict[int, Adapter] = {}

    def poison(prepared: Prepared, run: TrainingRun) -> None:
        if prepared.job.seed == 0:
            run.loss = run.loss + float("nan")

    with pytest.raises(DivergedError, match=r"diverged .*: 1 job of pasta at rate 0.02; lower the rate"):
        train_jobs(jobs, tiny_base(), poison, seats=1, finished=ends.__setitem__)
    assert sorted(ends) == [1, 2]
    for number, ours in ends.items():
        for a, b in zip(
            logits(ours, data), logits(train_jobs([jobs[number]], tiny_base())[0], data), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


LOST = (0, 1, 4)  # of mixed()


def mixed() -> list[Job]:
    """Seven jobs of three shapes, two jobs to a rate."""
    data = tiny_data("classify", train=16, dev=4, test=4)
    methods = ("pasta", "pasta", "pasta", "bitfit", "lora", "lora", "bitfit")
    return [
        job(data, method, seed, calm(method), epochs=3, batch=8, rate=(1 + seed // 2) / 100)
        for seed, method in enumerate(methods)
    ]


def lose(prepared: Prepared, run: TrainingRun) -> None:
    """The loss of some jobs is no number."""
    if prepared.job.seed in LOST:
        run.loss = run.loss + float("nan")


def queue(report: Report, ends: dict[int, Adapter], kept: Checkpoints | None = None) -> str:
    """Train the mixed jobs; what is said of those that diverged."""
    with pytest.raises(DivergedError) as told:
        train_jobs(mixed(), tiny_base(), report, seats=1, checkpoints=kept, finished=ends.__setitem__)
    return str(told.value)


def test_jobs_that_diverge_are_told_at_the_end_and_take_no_other_group_along() -> None:
    ends: dict[int, Adapter] = {}
    said = queue(lose, ends)
    assert "2 jobs of pasta at rate 0.01; 1 job of lora at rate 0.03; lower the rate, or set clip" in said
    assert sorted(ends) == [number for number in range(7) if number not in LOST]
    for number, ours in ends.items():
        assert same(ours, train_jobs([mixed()[number]], tiny_base())[0])


@pytest.mark.parametrize("stop", [4, 9, 15, 26])
def test_a_queue_with_jobs_that_diverge_ends_the_same_when_it_is_resumed(stop: int, tmp_path: Path) -> None:
    """Stopped in a job that is about to be lost, behind it, in the next group, and behind the last loss."""
    undisturbed: dict[int, Adapter] = {}
    said = queue(lose, undisturbed)
    steps = 0

    def lose_then_stop(prepared: Prepared, run: TrainingRun) -> None:
        nonlocal steps
        steps += 1
        if steps == stop:
            raise KeyboardInterrupt
        lose(prepared, run)

    with pytest.raises(KeyboardInterrupt):
        queue(lose_then_stop, {}, Checkpoints(tmp_path, every=1))
    for _ in range(2):  # the second time nothing is left to do
        ends: dict[int, Adapter] = {}
        assert queue(lose, ends, Checkpoints(tmp_path, every=1, resume=True)) == said
        assert sorted(ends) == sorted(undisturbed)
        assert all(same(ours, undisturbed[number]) for number, ours in ends.items())


def test_taking_a_seat_leaves_nothing_of_the_one_before_and_touches_no_other() -> None:
    group = [prepare(one, tiny_base()) for one in seven("lora")]
    seating = open_seats(group, tiny_base(), 2)
    model = seating.model
    start(seating, 1, group[1], tiny_base())
    before = [parameter[1].clone() for parameter in model.tuned()]
    with torch.no_grad():
        for parameter in model.tuned():
            parameter[0] = torch.nan
    start(seating, 0, group[0], tiny_base())  # two labels, where the head has room for five
    assert all(torch.isfinite(parameter).all() for parameter in model.tuned())
    assert all(torch.equal(parameter[1], old) for parameter, old in zip(model.tuned(), before, strict=True))
    place = model.places[0]
    assert model.head(place.head).kind == "classify" and model.head(place.head).classes.tolist()[0] == 2
    assert torch.equal(model.head(place.head).weight[0, :2], group[0].head.weight[0])


def test_a_finished_job_is_lifted_before_the_next_one_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    finish, begin = training.finished_adapter, training.start

    def finishing(*given: Any) -> Adapter:
        events.append("lift")
        return finish(*given)

    def starting(*given: Any) -> TrainingRun:
        events.append("start")
        return begin(*given)

    monkeypatch.setattr(training, "finished_adapter", finishing)
    monkeypatch.setattr(training, "start", starting)
    data = tiny_data("classify", train=8, dev=4, test=4)
    train_jobs([job(data, seed=seed, epochs=1 + seed) for seed in range(4)], tiny_base(), seats=1)
    assert events == ["start", "lift"] * 4


def test_rows_read_alike_are_tokenised_once() -> None:
    data = tiny_data("classify", train=8, dev=4, test=4)
    shared = Shared(tiny_base())
    first, second = (prepare(job(data, "pasta", seed), tiny_base(), shared) for seed in (0, 1))
    other = prepare(replace(job(data, "pasta"), limit=16), tiny_base(), shared)
    assert first.items is second.items and other.items is not first.items
    assert first.items == make_items(data.splits["train"], tiny_base().text, first.reading)


@pytest.mark.parametrize(("method", "name"), [("pasta", "row_sizes"), ("stp", "attention_mass")])
def test_an_encoder_is_measured_once_for_jobs_over_the_same_rows(
    method: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, measure = [], getattr(preparing, name)
    monkeypatch.setattr(preparing, name, lambda *given: measured.append(given[1]) or measure(*given))
    data = tiny_data("classify", train=8, dev=4, test=4)
    jobs = [job(data, method, seed) for seed in range(3)]
    packed = groups_of([*jobs, job(tiny_data("classify", train=6, dev=4, test=4), method)], tiny_base())
    assert [len(examples) for examples in measured] == [8, 6]
    together = {n: one for group in packed for n, one in group.items()}
    for number, own in enumerate(jobs):
        alone = prepare(own, tiny_base())
        assert together[number].cue.config == alone.cue.config
        assert all(torch.equal(together[number].units[n], unit) for n, unit in alone.units.items())


def test_no_seats_are_refused() -> None:
    with pytest.raises(RequestError, match="0 seats came; expected at least 1"):
        train_jobs([], tiny_base(), seats=0)
