"""Training: trains one job, or many at once over one frozen encoder, each as if it ran alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softcue.adapter import Adapter, check_place
from softcue.answering.evaluation import judge, run, tuned
from softcue.answering.seating import Seating
from softcue.base import Base
from softcue.errors import DivergedError, RequestError
from softcue.model import Model
from softcue.training.checkpoint import Checkpoints, Saved
from softcue.training.conditions import identity
from softcue.training.emphasis import class_weights, emphasise, emphasises
from softcue.training.finished import finished_adapter, untrained
from softcue.training.job import Job, Prepared, prepare, refuse_steps, seeded
from softcue.training.linear import fit_adapter
from softcue.training.loop import Autocast, OfferCheckpoint, fit
from softcue.training.parallel import refuse_ranks
from softcue.training.run import TrainingRun
from softcue.training.shared import Shared

SEATS = 32  # in one loop; more seats save little time and cost memory
FINISHED = "finished"  # folder beside the checkpoints, with the adapters that are already trained
Report = Callable[[Prepared, TrainingRun], None]
Finished = Callable[[int, Adapter], None]  # called with a job's number and its adapter


@dataclass
class Queue:
    """Jobs of equal shape: some of them have a seat, others wait for one."""

    jobs: Mapping[int, Prepared]  # by number
    waiting: list[int]  # indices of jobs
    # seat -> number of its job; a job that has ended keeps its seat until the next one takes it
    sitting: dict[int, int] = field(default_factory=dict)

    def call(self, seat: int) -> Prepared:
        """Give the seat to the next waiting job, and return that job."""
        self.sitting[seat] = self.waiting.pop(0)
        return self.in_seat(seat)

    def in_seat(self, seat: int) -> Prepared:
        """Return the job that has the seat."""
        return self.jobs[self.sitting[seat]]

    def saved(self) -> Saved:
        """Return which job has which seat, and which jobs wait."""
        return Saved({}, {"sitting": list(self.sitting.items()), "waiting": self.waiting})

    def load(self, saved: Saved) -> None:
        """Restore what saved() returned."""
        self.sitting = dict(saved.state["sitting"])
        self.waiting = saved.state["waiting"]


def train_jobs(
    jobs: Sequence[Job],
    base: Base,
    report: Report = lambda prepared, run: None,
    seats: int = SEATS,
    checkpoints: Checkpoints | None = None,
    finished: Finished = lambda number, adapter: None,
) -> list[Adapter]:
    """Train all jobs, and return their adapters in the order of the jobs.

    Jobs whose parameters have the same shapes form a group. A group trains in one loop, at most `seats` jobs
    at a time; when a job ends, the next one takes its seat. Each job has its own order of rows, learning
    rate, clipping, early stopping and best step. Without dropout its parameters therefore end as they would
    if it were trained alone. Dropout masks come from one generator, seeded by the group's first job.

    report: called after every step of a job.
    checkpoints: where checkpoints are kept, so that a killed run can be resumed.
    finished: called with a job's index and its adapter as soon as the adapter is ready.

    Raises RequestError before any training if a job cannot be trained. Raises DivergedError after all other
    jobs have ended if a job diverged before its first evaluation.
    """
    refuse_ranks("adapters train", "run it without torchrun (full fine-tuning alone shares its batches)")
    if seats < 1:
        raise RequestError(f"{seats} seats came; expected at least 1")
    saved: Saved | None = None
    adapters: dict[int, Adapter] = {}
    if checkpoints is not None:
        saved = checkpoints.open({"seats": seats, "jobs": identity(jobs, base)})
        for number in range(len(jobs)):
            check_place(_place(checkpoints, number))
        already = [] if saved is None else saved.state["finished"]
        adapters = {number: Adapter.load(_place(checkpoints, number)) for number in already}
        for number, adapter in adapters.items():
            finished(number, adapter)

    def note(number: int, adapter: Adapter) -> None:
        adapters[number] = adapter
        if checkpoints is not None:
            adapter.save(_place(checkpoints, number))
        finished(number, adapter)

    groups = groups_of(jobs, base)
    for at, group in enumerate(groups):
        if saved is not None and at < saved.state["group"]:
            continue

        def offer(make: Callable[[], Saved], at: int = at) -> None:
            if checkpoints is not None and checkpoints.due():
                made = make()
                state = {**made.state, "group": at, "finished": list(adapters)}
                checkpoints.write(Saved(made.tensors, state))

        if next(iter(group.values())).fitted:
            fit_group({n: one for n, one in group.items() if n not in adapters}, base, report, note, offer)
            continue
        here = saved if saved is not None and at == saved.state["group"] else None
        train_group(group, base, report, seats, note, here, offer)
    lost = [prepared for group in groups for number, prepared in group.items() if number not in adapters]
    if lost:
        raise diverged((prepared.job.method, prepared.training.rate) for prepared in lost)
    return [adapters[number] for number in range(len(jobs))]


def diverged(lost: Iterable[tuple[str, float]]) -> DivergedError:
    """Return the error for jobs that diverged before their first evaluation.

    lost: the method and the learning rate of each job.
    """
    rates: dict[str, list[float]] = {}
    for method, rate in lost:
        rates.setdefault(method, []).append(rate)
    parts = []
    for method, own in rates.items():
        jobs = "1 job" if len(own) == 1 else f"{len(own)} jobs"
        parts.append(f"{jobs} of {method} at rate {', '.join(f'{rate:g}' for rate in sorted(set(own)))}")
    return DivergedError(
        f"training diverged (the loss is not a finite number): {'; '.join(parts)}; lower the rate, or set "
        "clip"
    )


def groups_of(jobs: Sequence[Job], base: Base) -> list[dict[int, Prepared]]:
    """Prepare the jobs, and return them by index, in groups of equal shape.

    Jobs over the same rows share their token ids and what was measured with the encoder.
    """
    shared = Shared(base)
    groups: dict[Any, dict[int, Prepared]] = {}
    for number, job in enumerate(jobs):
        refuse_steps(job)
        prepared = prepare(job, base, shared)
        if emphasises(prepared):
            class_weights(prepared)  # refused now, if they are wrong
        # An adapter that cannot be saved is refused now, not after the last step.
        untrained(prepared, base).check_savable()
        groups.setdefault(prepared.shape, {})[number] = prepared
    return list(groups.values())


def fit_group(
    group: Mapping[int, Prepared], base: Base, report: Report, finished: Finished, offer: OfferCheckpoint
) -> None:
    """Fit the heads of jobs that leave the encoder's outputs unchanged, one after the other."""
    for number, prepared in group.items():
        finished(number, fit_adapter(prepared, base, report))
        offer(lambda: Saved({}, {}))


def train_group(
    group: Mapping[int, Prepared],
    base: Base,
    report: Report,
    seats: int,
    finished: Finished,
    saved: Saved | None,
    offer: OfferCheckpoint,
) -> None:
    """Train jobs of equal shape, each in its own seat; a free seat goes to the next job."""
    queue = Queue(group, list(group))
    if saved is not None:
        queue.load(saved.part("queue"))
    seating = open_seats(list(group.values()), base, min(seats, len(group)))
    model = seating.model
    runs = []
    for seat in list(queue.sitting) or range(min(seats, len(group))):
        job = queue.call(seat) if saved is None else queue.in_seat(seat)
        runs.append(start(seating, seat, job, base))

    def ended(run: TrainingRun) -> TrainingRun | None:
        if run.best_values:
            adapter = finished_adapter(model, run, queue.in_seat(run.seat), base)
            finished(queue.sitting[run.seat], adapter)
        if not queue.waiting:
            return None
        return start(seating, run.seat, queue.call(run.seat), base)

    def offer_both(make: Callable[[], Saved]) -> None:
        offer(lambda: Saved.join({"loop": make(), "queue": queue.saved()}))

    first = next(iter(group.values()))
    with seeded(first.job.seed):
        fit(
            model,
            runs,
            report=lambda run: report(queue.in_seat(run.seat), run),
            ended=ended,
            saved=None if saved is None else saved.part("loop"),
            offer=offer_both,
        )


def open_seats(group: Sequence[Prepared], base: Base, seats: int) -> Seating:
    """Return empty seats that any job of the group can take.

    There is one head for each kind and pooling, wide enough for the job with the most classes.
    """
    first = group[0]
    seating = Seating(base.backbone.encoder, first.head.dropout)
    seating.reserve_cue(first.job.method, first.cue.config, seats)
    for prepared in sorted(group, key=lambda one: (one.head.kind, one.head.pooling)):
        seating.reserve_head(prepared.head.kind, prepared.head.pooling, int(prepared.head.classes[0]), seats)
    return seating


def start(seating: Seating, seat: int, prepared: Prepared, base: Base) -> TrainingRun:
    """Put a job into the seat, with the job's own initial parameters."""
    seating.take(seat, untrained(prepared, base))
    return make_run(seating.model, seat, prepared)


def make_run(model: Model, seat: int, prepared: Prepared, precision: Autocast = nullcontext) -> TrainingRun:
    """Return a job in the form that the loop needs: its items, its settings, and how to score it."""
    records = prepared.selection.select
    data = prepared.job.data
    items = prepared.read(records, prepared.reading)

    def score() -> float:
        with precision():
            answers = run(model, items, [seat] * len(items))
        return judge(answers, records, tuned(answers, records, prepared.reading), data)[data.metric]

    place = model.places[seat]
    emphasise(model.head(place.head), place.head_seat, prepared)
    cue = model.mixture.cue_of(seat)
    units = {id(cue.get_parameter(name)): unit for name, unit in prepared.units.items()}
    own = [units.get(id(parameter)) for parameter in model.tuned()]
    return TrainingRun(seat, prepared.items, prepared.training, score, prepared.job.seed, len(records), own)


def _place(checkpoints: Checkpoints, number: int) -> Path:
    return checkpoints.folder / FINISHED / f"{number:05}"
