"""Training: one job or many at once over one frozen encoder, each of them as if it ran alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from softcue.adapter import Adapter, check_place, lift
from softcue.answering.evaluation import evaluate_seat
from softcue.answering.seating import Seating, lift_seat
from softcue.base import Base
from softcue.errors import DivergedError, RequestError
from softcue.model import Model
from softcue.readers.items import remembering
from softcue.training.checkpoint import Checkpoints, Saved
from softcue.training.conditions import identity
from softcue.training.job import Job, Prepared, prepare, seeded
from softcue.training.loop import Autocast, OfferCheckpoint, fit
from softcue.training.parallel import refuse_ranks
from softcue.training.run import TrainingRun

SEATS = 32  # of one loop; more save little time and cost memory
# folder of the adapters that a queue of jobs has trained so far, beside the checkpoints
FINISHED = "finished"
Report = Callable[[Prepared, TrainingRun], None]
Finished = Callable[[int, Adapter], None]  # a job's number and what it gave


@dataclass
class Queue:
    """Jobs of equal shape, some of them in seats."""

    jobs: Mapping[int, Prepared]  # by number
    waiting: list[int]  # numbers
    # seat -> number; who has ended keeps the seat until it is taken
    sitting: dict[int, int] = field(default_factory=dict)

    def call(self, seat: int) -> Prepared:
        """Give the seat to the next job that waits, and return the job."""
        self.sitting[seat] = self.waiting.pop(0)
        return self.jobs[self.sitting[seat]]

    def in_seat(self, seat: int) -> Prepared:
        """Return the job that has the seat."""
        return self.jobs[self.sitting[seat]]

    def saved(self) -> Saved:
        """Return which jobs have which seats, and which wait."""
        return Saved({}, {"sitting": list(self.sitting.items()), "waiting": self.waiting})

    def load(self, saved: Saved) -> None:
        """Go on from where saved() was asked for."""
        self.sitting, self.waiting = dict(saved.state["sitting"]), saved.state["waiting"]


def train_jobs(
    jobs: Sequence[Job],
    base: Base,
    report: Report = lambda prepared, run: None,
    seats: int = SEATS,
    checkpoints: Checkpoints | None = None,
    finished: Finished = lambda number, adapter: None,
) -> list[Adapter]:
    """Train all jobs, and return their adapters in the jobs' order.

    Jobs of equal shape share one loop of at most `seats`.

    Each job has its own order of rows, learning rate, clipping, early stopping and best step, so that with
    dropout off it gives the numbers that it gives alone; dropout masks come from one generator, seeded by the
    group's first job. A seat whose job has ended goes to the next one. report: called after every step of a
    job; checkpoints: where a killed run goes on;
    finished: called with a job's number as soon as it has its adapter. Raises RequestError: at once for what
    cannot be trained, and as DivergedError, after all jobs are done, for those that diverged before they were
    ever scored.
    """
    refuse_ranks("adapters train", "run it without torchrun (full fine-tuning alone shares its batches)")
    if seats < 1:
        raise RequestError(f"{seats} seats came; expected at least 1")
    made_with = {} if checkpoints is None else {"seats": seats, "jobs": identity(jobs, base)}
    saved = None if checkpoints is None else checkpoints.open(made_with)
    for place in [] if checkpoints is None else [_place(checkpoints, number) for number in range(len(jobs))]:
        check_place(place)
    adapters: dict[int, Adapter] = {}
    if checkpoints is not None and saved is not None:
        adapters = {number: Adapter.load(_place(checkpoints, number)) for number in saved.state["finished"]}
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
                checkpoints.write(
                    Saved(made.tensors, {**made.state, "group": at, "finished": list(adapters)})
                )

        here = saved if saved is not None and at == saved.state["group"] else None
        train_group(group, base, report, seats, note, here, offer)
    lost = [prepared for group in groups for number, prepared in group.items() if number not in adapters]
    if lost:
        raise diverged((prepared.job.method, prepared.training.rate) for prepared in lost)
    return [adapters[number] for number in range(len(jobs))]


def diverged(lost: Iterable[tuple[str, float]]) -> DivergedError:
    """Return the error for jobs, each a method and a rate, that diverged before they were ever scored."""
    rates: dict[str, list[float]] = {}
    for method, rate in lost:
        rates.setdefault(method, []).append(rate)
    told = "; ".join(
        f"{len(own)} job{'s' * (len(own) > 1)} of {method} at rate "
        f"{', '.join(f'{rate:g}' for rate in sorted(set(own)))}"
        for method, own in rates.items()
    )
    return DivergedError(
        f"training diverged (the loss is not a finite number): {told}; lower the rate, or set clip"
    )


def groups_of(jobs: Sequence[Job], base: Base) -> list[dict[int, Prepared]]:
    """Group jobs by shape, under their numbers.

    They share the token ids of rows that they read alike.
    """
    read = remembering(base.text)
    groups: dict[Any, dict[int, Prepared]] = {}
    for number, job in enumerate(jobs):
        prepared = prepare(job, base, read)
        untrained(prepared, base).check_savable()  # rather now than after the last step
        groups.setdefault(prepared.shape, {})[number] = prepared
    return list(groups.values())


def train_group(
    group: Mapping[int, Prepared],
    base: Base,
    report: Report,
    seats: int,
    finished: Finished,
    saved: Saved | None,
    offer: OfferCheckpoint,
) -> None:
    """Train jobs of equal shape, each on a seat of its own; a seat that comes free goes to the next job."""
    queue = Queue(group, list(group))
    if saved is not None:
        queue.load(saved.part("queue"))
    seed, count = next(iter(group.values())).job.seed, min(seats, len(group))
    seating = open_seats(list(group.values()), base, count)
    model, sitting = seating.model, list(queue.sitting) or list(range(count))
    runs = [
        start(seating, seat, queue.in_seat(seat) if saved is not None else queue.call(seat), base)
        for seat in sitting
    ]

    def ended(run: TrainingRun) -> TrainingRun | None:
        if run.best_numbers:
            finished(queue.sitting[run.seat], finished_adapter(model, run, queue.in_seat(run.seat), base))
        return start(seating, run.seat, queue.call(run.seat), base) if queue.waiting else None

    with seeded(seed):
        fit(
            model,
            runs,
            report=lambda run: report(queue.in_seat(run.seat), run),
            ended=ended,
            saved=None if saved is None else saved.part("loop"),
            offer=lambda make: offer(lambda: Saved.join({"loop": make(), "queue": queue.saved()})),
        )


def open_seats(group: Sequence[Prepared], base: Base, seats: int) -> Seating:
    """Open free seats that any job of the group can take.

    There is a head for each kind and pooling, with room for the most classes.
    """
    first = group[0]
    seating = Seating(base.backbone.encoder, first.head.dropout)
    seating.reserve_cue(first.job.method, first.cue.config, seats)
    for prepared in sorted(group, key=lambda one: (one.head.kind, one.head.pooling)):
        seating.reserve_head(prepared.head.kind, prepared.head.pooling, int(prepared.head.classes[0]), seats)
    return seating


def start(seating: Seating, seat: int, prepared: Prepared, base: Base) -> TrainingRun:
    """Give the seat to a job, with the job's own initial numbers."""
    seating.take(seat, untrained(prepared, base))
    return make_run(seating.model, seat, prepared)


def make_run(model: Model, seat: int, prepared: Prepared, precision: Autocast = nullcontext) -> TrainingRun:
    """Return a job as the loop sees it: its items, its settings, and how it is scored."""
    records, data = prepared.selection.select, prepared.job.data
    items = prepared.read(records, prepared.reading)

    def score() -> float:
        with precision():
            return evaluate_seat(model, seat, items, records, prepared.reading, data)[data.metric]

    cue = model.mixture.cue_of(seat)
    units = {id(cue.get_parameter(name)): unit for name, unit in prepared.units.items()}
    own = [units.get(id(parameter)) for parameter in model.tuned()]
    return TrainingRun(seat, prepared.items, prepared.training, score, prepared.job.seed, len(records), own)


def finished_adapter(model: Model, run: TrainingRun, prepared: Prepared, base: Base) -> Adapter:
    """Return a trained seat as an adapter, scored on the rows that chose nothing, if there are any."""
    reading, selection = prepared.reading, prepared.selection
    items = prepared.read(selection.report, reading)
    scores = (
        evaluate_seat(model, run.seat, items, selection.report, reading, prepared.job.data) if items else {}
    )
    cue, head = lift_seat(model, run.seat)
    truncated = sum(item.dropped > 0 for item in items)
    scores = {**scores, "selection": run.best, "selection_step": run.best_step, "truncated": truncated}
    return replace(untrained(prepared, base), scores=scores, cue=cue, head=head)


def untrained(prepared: Prepared, base: Base) -> Adapter:
    """Return the adapter that training is to give, with the initial numbers and no scores."""
    job, reading = prepared.job, prepared.reading
    cue, head = lift(prepared.cue, 0, prepared.head, 0)
    return Adapter(
        method=job.method,
        config=prepared.cue.config,
        dims=base.backbone.encoder.dims,
        backbone=base.backbone.name,
        fingerprint=base.fingerprint,
        kind=reading.kind,
        labels=reading.labels,
        pooling=prepared.head.pooling,
        pair=job.data.pair,
        limit=reading.limit,
        centre=reading.centre,
        spread=reading.spread,
        task=job.data.name,
        subset=job.data.subset,
        scores={},
        measured=prepared.selection.measured,
        seed=job.seed,
        training=asdict(prepared.training),
        cue=cue,
        head=head,
    )


def _place(checkpoints: Checkpoints, number: int) -> Path:
    return checkpoints.folder / FINISHED / f"{number:05}"
