"""Job: what to train, and everything that follows from its data, its encoder and its seed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from softcue.adapter.header import LABEL_LIMIT, SIZE_LIMIT
from softcue.adapter.values import largest
from softcue.base import Base
from softcue.cues import Cue
from softcue.encoder.attention_mass import attention_mass
from softcue.encoder.row_sizes import row_sizes
from softcue.errors import RequestError, SettingsError
from softcue.heads import POOLINGS, THROUGH_POOLER, Head
from softcue.kinds import KINDS
from softcue.kinds.base import READS_CHOICES
from softcue.protocol import Facts
from softcue.readers.items import Item, Reading, ReadItems
from softcue.readers.records import Data, Record
from softcue.readers.splits import Selection, select
from softcue.text.tokens import Text
from softcue.training.settings import SMALL, TRAINING, Training, preset, preset_config, steps_settings
from softcue.training.shared import Shared

DEFAULT_LIMIT = 128  # tokens, as in the published recipes
MEASURED = 256  # training examples on which attention is measured
SIZED = 32  # training examples on which the sizes of rows are measured; they differ little from text to text


@dataclass(frozen=True)
class Job:
    """Says what to train: a data set, a method with its settings, and a seed."""

    data: Data
    method: str = "pasta"
    settings: Mapping[str, Any] = field(default_factory=dict)  # fields of the method's config
    training: Mapping[str, Any] = field(default_factory=dict)  # fields of Training; they override the preset
    seed: int = 0
    pooling: str | None = None  # None: the backbone's default
    limit: int = DEFAULT_LIMIT  # most tokens of an example; lowered if the encoder takes fewer
    from_train: bool = False  # a tenth of train selects, even if there is a dev split
    selection: Selection | None = None  # rows chosen by the caller; None: select() chooses them


@dataclass(frozen=True)
class Prepared:
    """A job, and everything that follows from its data, its encoder and its seed."""

    job: Job
    selection: Selection
    reading: Reading
    training: Training
    items: list[Item]  # of the training rows
    cue: Cue  # one seat, initialised by the job's seed
    units: Mapping[str, Tensor]  # what Cue.units returned, by the name of the cue's parameter
    head: Head
    read: ReadItems  # records to items
    fitted: bool = False  # whether the head is fitted, because the encoder's outputs never change

    @property
    def shape(self) -> Any:
        """The settings that must be equal for jobs to train in one loop."""
        return self.job.method, type(self.cue).shape(self.cue.config), self.training.shape


def method_class(method: str) -> type[Cue]:
    """Return the class of a method, or raise RequestError if it is unknown."""
    if method not in Cue.registry:
        raise RequestError(f"method {method!r} is unknown; expected one of {', '.join(sorted(Cue.registry))}")
    return Cue.registry[method]


def make_config(method: type[Cue], kind: str, settings: Mapping[str, Any]) -> Any:
    """Return the method's config: its preset for the kind of data, with the user's settings on top.

    Raises RequestError that names every wrong setting.
    """
    known = {f.name for f in fields(method.Config)}
    wrong = sorted(set(settings) - known)
    if wrong:
        raise SettingsError(
            f"{method.method} has no setting {', '.join(wrong)}; it has {', '.join(sorted(known)) or 'none'}"
        )
    config = method.Config(**{**preset_config(method.method, kind), **settings})
    huge = [f.name for f in fields(config) if largest(getattr(config, f.name)) > SIZE_LIMIT]
    if huge:
        raise SettingsError(
            f"{method.method}: {', '.join(huge)} is larger than any adapter holds; expected at most "
            f"{SIZE_LIMIT:,}"
        )
    return config


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators with `seed`, and put their states back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def prepare(job: Job, base: Base, shared: Shared | None = None) -> Prepared:
    """Prepare a job: splits, labels, config, initial parameters, limit, token ids.

    shared: results that jobs over the same records can share; this function adds to it.
    """
    shared = shared or Shared(base)
    read = shared.read
    method = method_class(job.method)
    encoder = base.backbone.encoder
    slots = base.text.slots(job.data.pair or KINDS[job.data.kind].reads == READS_CHOICES)
    selection = job.selection or select(job.data, job.seed, job.from_train or sets_aside(job, method))
    pooling = choose_pooling(job.pooling, base)
    reading = read_as(job.data, selection.train, min(job.limit, encoder.spec.positions), base.text)
    training = preset(job.method, job.data.kind, len(selection.train), job.training)
    if "rate" not in job.training:
        training = replace(training, rate=training.rate * method.rate_share(encoder.dims))
    check_room(reading.limit, len(slots))
    items = read(selection.train, reading)
    examples = [example for item in items[:MEASURED] for example in item.examples]
    doubled = base.text.slots(True).count("sep") > 2
    facts = Facts(encoder.dims, slots, lambda: shared.measured(attention_mass, examples, len(slots)), doubled)
    config = method.settle(make_config(method, job.data.kind, job.settings), facts)
    units: Mapping[str, Tensor] = {}
    if training.units:
        units = method.units(config, lambda: shared.measured(row_sizes, examples[:SIZED], len(slots)))
    classes = max(1, len(reading.labels))
    with seeded(job.seed):
        cue = method(encoder.dims, config)
        in_units(cue, units)
        head = Head(job.data.kind, encoder.dims.hidden, [classes], pooling, training.head_dropout)
    room = encoder.spec.positions - max(cue.shift, cue.reserve)
    if room < reading.limit:
        check_room(room, len(slots))
        reading = replace(reading, limit=room)
        items = read(selection.train, reading)
    return Prepared(
        job, selection, reading, training, items, cue, units, head, read, fitted=method.frozen_outputs
    )


def sets_aside(job: Job, method: type[Cue]) -> bool:
    """Say whether a tenth of train selects instead of dev.

    Otherwise scoring a large dev split would take most of the time of a fit.
    """
    return method.frozen_outputs and len(job.data.splits.get("train", ())) >= SMALL


def refuse_steps(job: Job) -> None:
    """Raise SettingsError for training settings that the job's method does not use."""
    wrong = sorted(set(job.training) & TRAINING - steps_settings(method_class(job.method)))
    if wrong:
        raise SettingsError(
            f"{job.method} is fitted, not trained in steps, and does not use {', '.join(wrong)}; leave it out"
        )


@torch.no_grad()
def in_units(cue: Cue, units: Mapping[str, Tensor]) -> None:
    """Multiply the cue's initial parameters by their units."""
    for name, unit in units.items():
        cue.get_parameter(name).mul_(unit)


def check_room(limit: int, special: int) -> None:
    """Raise RequestError if the limit leaves no token for the text."""
    if limit <= special:
        raise RequestError(
            f"{limit} tokens are left for an example, but its {special} special tokens leave none for the "
            "text; raise the limit, or shorten the prompt or prefix"
        )


def choose_pooling(pooling: str | None, base: Base) -> str:
    """Return the pooling that was asked for, or the backbone's default.

    Raises RequestError for one that the backbone does not have.
    """
    allowed = [p for p in POOLINGS if p not in THROUGH_POOLER or base.backbone.encoder.pooler is not None]
    pooling = pooling or base.backbone.pooling
    if pooling not in allowed:
        raise RequestError(
            f"{base.backbone.name} does not have pooling {pooling!r}; expected one of {', '.join(allowed)}"
        )
    return pooling


def read_as(data: Data, train: Sequence[Record], limit: int, text: Text) -> Reading:
    """Return the Reading that turns the data set's records into token ids and targets.

    Scores are standardised with the mean and deviation of the training rows' scores.
    """
    if len(data.labels) > LABEL_LIMIT:
        raise RequestError(
            f"{data.name} has {len(data.labels):,} labels; expected at most {LABEL_LIMIT:,}: check that the "
            "label's column is the right one"
        )
    return KINDS[data.kind].reading(data.labels, train, limit, text, data.name)
