"""Training: one job or many at once over one frozen encoder, each of them as if it ran alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch

from softcue.adapter import Adapter, lift
from softcue.adapter.header import SIZE_LIMIT
from softcue.adapter.values import largest
from softcue.attention_mass import attention_mass
from softcue.base import Base
from softcue.cues import Cue
from softcue.errors import RequestError
from softcue.evaluation import evaluate
from softcue.heads import POOLINGS, Head
from softcue.loop import Precision, Run, fit
from softcue.model import Model, Place
from softcue.prepare import Item, Reading, make_items
from softcue.protocol import Facts
from softcue.readers.records import Data, Record
from softcue.settings import Training, preset
from softcue.splits import Selection, select

LIMIT = 128  # tokens, as in the published recipes
MEASURED = 256  # training examples on which attention is measured
Report = Callable[["Prepared", Run], None]


@dataclass(frozen=True)
class Job:
    """What to train: a data set, a method with its settings, and a seed."""

    data: Data
    method: str = "pasta"
    settings: Mapping[str, Any] = field(default_factory=dict)  # fields of the method's config
    training: Mapping[str, Any] = field(default_factory=dict)  # fields of Training, over the method's preset
    seed: int = 0
    pooling: str | None = None  # None: the backbone's default
    limit: int = LIMIT  # longest example in tokens; lowered where the encoder has no room for it
    from_train: bool = False  # a tenth of train selects even where there is a dev split
    selection: Selection | None = None  # rows that the caller has chosen; None: select() does


@dataclass(frozen=True)
class Prepared:
    """A job with everything settled that its data, its encoder and its seed decide."""

    job: Job
    selection: Selection
    reading: Reading
    training: Training
    items: list[Item]  # of the training rows
    cue: Cue  # one seat, initialised by the job's seed
    head: Head

    @property
    def shape(self) -> Any:
        """Jobs of equal shape train in one loop."""
        training = self.training
        return self.job.method, type(self.cue).shape(self.cue.config), training.backbone_dropout, training.head_dropout


def method_class(method: str) -> type[Cue]:
    """The class of a method; RequestError for an unknown one."""
    if method not in Cue.registry:
        raise RequestError(f"method {method!r} is unknown; expected one of {', '.join(sorted(Cue.registry))}")
    return Cue.registry[method]


def make_config(method: type[Cue], settings: Mapping[str, Any]) -> Any:
    """The method's config with the user's settings; RequestError names every wrong one."""
    known = {f.name for f in fields(method.Config)}
    wrong = sorted(set(settings) - known)
    if wrong:
        raise RequestError(f"{method.method} has no setting {', '.join(wrong)}; it has {', '.join(sorted(known)) or 'none'}")
    config = method.Config(**settings)
    huge = [f.name for f in fields(config) if largest(getattr(config, f.name)) > SIZE_LIMIT]
    if huge:
        raise RequestError(f"{method.method}: {', '.join(huge)} is larger than any adapter holds; expected at most {SIZE_LIMIT:,}")
    return config


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's generators set to `seed` inside, and put back after."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def prepare(job: Job, base: Base) -> Prepared:
    """Settle a job: splits, labels, config, initial numbers, limit, token ids."""
    method, encoder, slots = method_class(job.method), base.backbone.encoder, base.text.slots(job.data.pair or job.data.kind == "choice")
    selection = job.selection or select(job.data, job.seed, job.from_train)
    pooling = choose_pooling(job.pooling, base)
    reading = read_as(job.data, selection.train, min(job.limit, encoder.spec.positions))
    training = preset(job.method, job.data.kind, len(selection.train), job.training)
    check_room(reading.limit, len(slots))
    items = make_items(selection.train, base.text, reading)
    examples = [example for item in items[:MEASURED] for example in item.examples]
    doubled = base.text.slots(True).count("sep") > 2
    facts = Facts(encoder.dims, slots, lambda: attention_mass(encoder, examples, len(slots)), doubled)
    config = method.settle(make_config(method, job.settings), facts)
    with seeded(job.seed):
        cue = method(encoder.dims, config)
        head = Head.registry[job.data.kind](encoder.dims.hidden, [max(1, len(reading.labels))], pooling, training.head_dropout)
    room = encoder.spec.positions - max(cue.shift, cue.reserve)
    if room < reading.limit:
        check_room(room, len(slots))
        reading = replace(reading, limit=room)
        items = make_items(selection.train, base.text, reading)
    return Prepared(job, selection, reading, training, items, cue, head)


def check_room(limit: int, special: int) -> None:
    """RequestError where no token of the text would be left."""
    if limit <= special:
        raise RequestError(
            f"{limit} tokens are left for an example, and its {special} special tokens leave none for the text; "
            "raise the limit, or shorten the prompt or prefix"
        )


def choose_pooling(pooling: str | None, base: Base) -> str:
    """The asked-for pooling, or the backbone's default."""
    allowed = [p for p in POOLINGS if p != "pooler" or base.backbone.encoder.pooler is not None]
    pooling = pooling or base.backbone.pooling
    if pooling not in allowed:
        raise RequestError(f"pooling {pooling!r} is not to be had with {base.backbone.name}; expected one of {', '.join(allowed)}")
    return pooling


def read_as(data: Data, train: Sequence[Record], limit: int) -> Reading:
    """How the data set's records become token ids and targets; scores are standardised by their training rows."""
    if data.kind in ("classify", "tag") and not data.labels:
        raise RequestError(f"{data.name} names no labels; expected those of its training rows")
    if data.kind != "score":
        return Reading(data.kind, data.labels, limit)
    values = torch.tensor([float(record.label) for record in train if record.label is not None], dtype=torch.float64)
    return Reading(data.kind, (), limit, float(values.mean()), float(values.std(correction=0)) or 1.0)


def train_jobs(jobs: Sequence[Job], base: Base, report: Report = lambda prepared, run: None) -> list[Adapter]:
    """Train all jobs, those of equal shape in one loop; adapters come back in the jobs' order.

    Each job has its own order of rows, learning rate, clipping, early stopping and best step, so that with dropout off
    it gives the numbers that it gives alone; dropout masks come from one generator, seeded by the group's first job.
    """
    groups: dict[Any, list[tuple[int, Prepared]]] = {}
    for number, job in enumerate(jobs):
        prepared = prepare(job, base)
        groups.setdefault(prepared.shape, []).append((number, prepared))
    adapters: dict[int, Adapter] = {}
    for group in groups.values():
        trained = train_group([prepared for _, prepared in group], base, report)
        adapters.update(zip((number for number, _ in group), trained, strict=True))
    return [adapters[number] for number in range(len(jobs))]


def train_group(group: Sequence[Prepared], base: Base, report: Report) -> list[Adapter]:
    """Train jobs of equal shape, each on a seat of its own."""
    model = seat_all(group, base)
    runs = [make_run(model, seat, prepared, base) for seat, prepared in enumerate(group)]
    by_seat = dict(enumerate(group))
    with seeded(group[0].job.seed):
        fit(model, runs, report=lambda run: report(by_seat[run.seat], run))
    return [finish(model, run, prepared, base) for run, prepared in zip(runs, group, strict=True)]


def seat_all(group: Sequence[Prepared], base: Base) -> Model:
    """One model with a seat per job, which holds the job's initial numbers; a head per (kind, pooling)."""
    seats, encoder, first = len(group), base.backbone.encoder, group[0]
    if seats == 1:
        model = Model.single(encoder, first.cue, first.head)
        return model.to(model.device)
    cue = type(first.cue)(encoder.dims, first.cue.config, seats)
    sorts = sorted({(p.job.data.kind, p.head.pooling) for p in group})
    classes = [int(p.head.classes[0]) for p in group]
    heads = [
        Head.registry[kind](
            encoder.dims.hidden, [c if p.head.kind == kind else 1 for c, p in zip(classes, group, strict=True)], pooling, first.head.dropout
        )
        for kind, pooling in sorts
    ]
    places = [Place(0, seat, sorts.index((p.job.data.kind, p.head.pooling)), seat) for seat, p in enumerate(group)]
    for place, prepared in zip(places, group, strict=True):
        cue.configure(place.cue_seat, prepared.cue.config)
        copy_seat(prepared.cue, cue, place.cue_seat)
        copy_seat(prepared.head, heads[place.head], place.head_seat)
    model = Model(encoder, [cue], heads, places)
    return model.to(model.device)


@torch.no_grad()
def copy_seat(source: torch.nn.Module, target: torch.nn.Module, seat: int) -> None:
    """The numbers of a module of one seat into one seat of a larger one (a head may have more classes than the source)."""
    for (_, small), (_, large) in zip(source.named_parameters(), target.named_parameters(), strict=True):
        own = large[seat]
        own[: small.shape[1]].copy_(small[0]) if own.dim() else own.copy_(small[0])


def make_run(model: Model, seat: int, prepared: Prepared, base: Base, precision: Precision = nullcontext) -> Run:
    """A job as the loop sees it: its items, its settings, and how it is scored on the selection rows."""
    records, data = prepared.selection.select, prepared.job.data
    items = make_items(records, base.text, prepared.reading)

    def score() -> float:
        with precision():
            return evaluate(model, seat, items, records, prepared.reading, data)[data.metric]

    return Run(seat, prepared.items, prepared.training, score, prepared.job.seed)


def finish(model: Model, run: Run, prepared: Prepared, base: Base) -> Adapter:
    """A trained seat as an adapter, scored on the rows that chose nothing, if there are any."""
    job, reading, selection = prepared.job, prepared.reading, prepared.selection
    items = make_items(selection.report, base.text, reading)
    scores = evaluate(model, run.seat, items, selection.report, reading, job.data) if items else {}
    place = model.places[run.seat]
    cue_numbers, head_numbers = lift(model.mixture.cue_of(run.seat), place.cue_seat, model.head(place.head), place.head_seat)
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
        scores={**scores, "selection": run.best, "selection_step": run.best_step, "truncated": sum(item.dropped > 0 for item in items)},
        measured=selection.measured,
        seed=job.seed,
        training=asdict(prepared.training),
        cue=cue_numbers,
        head=head_numbers,
    )
