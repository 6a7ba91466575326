"""Trials: what a search trains - a point, on a data set, with a seed - and how many of them
share one packed loop.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from softcue.adapter import Adapter
from softcue.base import Base
from softcue.errors import DivergedError
from softcue.readers.records import Data, Record
from softcue.readers.splits import Selection, select
from softcue.studies.space import Point
from softcue.training.job import DEFAULT_LIMIT, Job, Prepared, make_config, method_class
from softcue.training.jobs import Report, train_jobs
from softcue.training.run import TrainingRun
from softcue.training.settings import Training, preset

# jobs in one loop; on a CPU more gain nothing, and a killed sweep loses a group
SEATS_BY_DEVICE = {"cpu": 16, "cuda": 128}
# tokens in one step of a group, about: what backward keeps has to fit
STEP_ROWS = {"cpu": 8_192, "cuda": 65_536}
LETTERS = 4  # of English text in a token, about


@dataclass(frozen=True)
class Trial:
    """One training run of a search."""

    point: Point
    data: str  # name of the data set
    seed: int
    epochs: int | None = None  # None: the point's own, or the preset's
    rows: int | None = None  # training rows at most, drawn by the seed
    select: int | None = None  # selection rows at most

    @property
    def training(self) -> dict[str, Any]:
        """Training settings over the preset's."""
        return {**self.point.training, **({} if self.epochs is None else {"epochs": self.epochs})}


# trained in one go, so that dropout masks and thus scores never depend on what else is to be done
Group = tuple[Trial, ...]


@dataclass(frozen=True)
class Outcome:
    """What a trial came to."""

    trial: Trial
    score: float | None  # on its selection rows; None: training diverged
    step: int  # at which it was reached
    rate: float
    epochs: int
    rows: int  # that it trained on


@dataclass(frozen=True)
class Result:
    """A group's outcomes, in order, and for each data set the adapter of its best point's best seed."""

    outcomes: tuple[Outcome, ...]
    adapters: Mapping[str, Adapter]
    seconds: float

    @property
    def examples(self) -> int:
        """Training examples that its trials planned to see."""
        return sum(outcome.rows * outcome.epochs for outcome in self.outcomes)


@dataclass(frozen=True)
class Terms:
    """What all trials of a search have in common."""

    data: Mapping[str, Data]
    pooling: str | None = None
    limit: int = DEFAULT_LIMIT


class SearchObserver:
    """Told how a search goes; this one does nothing with it."""

    def rung(self, number: int, count: int, groups: Sequence[Group], terms: Terms) -> None:
        """Note that rung `number` (from 1) of `count` begins."""

    def step(self, prepared: Prepared, run: TrainingRun) -> None:
        """Note that a run went on by a step."""

    def result(self, result: Result) -> None:
        """Note that a group is finished."""


def run_group(group: Group, terms: Terms, base: Base, report: Report = lambda prepared, run: None) -> Result:
    """Train a group's trials packed."""
    began = time.monotonic()
    jobs = [make_job(trial, terms) for trial in group]
    found: dict[int, Adapter] = {}
    with suppress(DivergedError):  # a point at which training diverges is an outcome like any other
        train_jobs(jobs, base, report, seats=len(jobs), finished=found.__setitem__)
    adapters = [found.get(number) for number in range(len(jobs))]
    outcomes = tuple(
        _outcome(trial, job, adapter) for trial, job, adapter in zip(group, jobs, adapters, strict=True)
    )
    best: dict[str, Adapter] = {}
    for name in dict.fromkeys(trial.data for trial in group):
        winner = ranked([outcome for outcome in outcomes if outcome.trial.data == name])[0].key
        own = [
            a
            for a, trial in zip(adapters, group, strict=True)
            if a is not None and (trial.data, trial.point.key) == (name, winner)
        ]
        if own:
            best[name] = max(own, key=lambda adapter: adapter.scores["selection"])
    return Result(outcomes, best, time.monotonic() - began)


def _outcome(trial: Trial, job: Job, adapter: Adapter | None) -> Outcome:
    rows = len(job.selection.train) if job.selection else 0
    training = preset(job.method, job.data.kind, rows, job.training)
    if adapter is None:
        return Outcome(trial, None, 0, training.rate, training.epochs, rows)
    score, step = adapter.scores["selection"], adapter.scores["selection_step"]
    return Outcome(trial, score, step, adapter.training["rate"], training.epochs, rows)


def make_job(trial: Trial, terms: Terms) -> Job:
    """Return a trial as train_jobs takes it: a tenth of train selects, and nothing is reported."""
    data = terms.data[trial.data]
    whole = select(data, trial.seed, from_train=True)
    train, chosen = draw(whole.train, trial.rows, trial.seed), draw(whole.select, trial.select, trial.seed)
    rows = Selection(train, chosen, [], f"selected on a tenth of train (seed {trial.seed})")
    return Job(
        data,
        trial.point.method,
        trial.point.own,
        trial.training,
        trial.seed,
        terms.pooling,
        terms.limit,
        selection=rows,
    )


def draw(records: list[Record], count: int | None, seed: int) -> list[Record]:
    """Draw at most so many of the records by the seed, and leave them in their order."""
    if count is None or count >= len(records):
        return records
    order = torch.randperm(len(records), generator=torch.Generator().manual_seed(seed)).tolist()
    return [records[i] for i in sorted(order[:count])]


def ranked(outcomes: Sequence[Outcome]) -> list[Point]:
    """Return the points of one data set's outcomes, the best mean over seeds first.

    Of equals the earlier comes first; those that diverged are last.
    """
    points = {outcome.trial.point.key: outcome.trial.point for outcome in outcomes}
    scores: dict[str, list[float | None]] = {key: [] for key in points}
    for outcome in outcomes:
        scores[outcome.trial.point.key].append(outcome.score)
    return [points[key] for key in sorted(points, key=lambda key: -mean(scores[key]))]


def mean(scores: Sequence[float | None]) -> float:
    """Return the mean; minus infinity if one diverged."""
    numbers = [float("-inf") if score is None else score for score in scores]
    return sum(numbers) / len(numbers)


def device_of(base: Base) -> str:
    """Return where the encoder is: cpu or cuda."""
    return next(base.backbone.encoder.parameters()).device.type


def group_trials(trials: Sequence[Trial], terms: Terms, device: str) -> list[Group]:
    """Group trials that can share a loop, as many as the device is good for.

    All seeds of a point on a data set stay together.
    """
    seats, rows_at_most = SEATS_BY_DEVICE[device], STEP_ROWS[device]
    units: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        units.setdefault((trial.point.key, trial.data), []).append(trial)
    groups: dict[Any, list[list[Trial]]] = {}
    for unit in units.values():
        training, rows = trial_training(unit[0], terms), sum(step_rows(trial, terms) for trial in unit)
        method = method_class(unit[0].point.method)
        shape = method.shape(settled_config(unit[0], terms)), training.shape
        open_groups = groups.setdefault((method.method, shape), [[]])
        last = open_groups[-1]
        full = (
            len(last) + len(unit) > seats
            or sum(step_rows(trial, terms) for trial in last) + rows > rows_at_most
        )
        if last and full:
            open_groups.append(list(unit))
        else:
            last += unit
    return [tuple(group) for of_shape in groups.values() for group in of_shape]


def trial_training(trial: Trial, terms: Terms) -> Training:
    """Return a trial's training settings."""
    data = terms.data[trial.data]
    return preset(trial.point.method, data.kind, len(data.splits["train"]), trial.training)


def settled_config(trial: Trial, terms: Terms) -> Any:
    """Return a trial's config of its method."""
    return make_config(method_class(trial.point.method), terms.data[trial.data].kind, trial.point.own)


def step_rows(trial: Trial, terms: Terms) -> int:
    """Estimate the tokens in a step of a trial."""
    data = terms.data[trial.data]
    longs = [sum(map(len, _texts(record))) / LETTERS for record in data.splits["train"][:200]]
    return round(trial_training(trial, terms).batch * min(terms.limit, sum(longs) / len(longs)))


def _texts(record: Record) -> Iterator[str]:
    yield from (text for text in (record.text, record.pair, *record.choices) if text)
    yield from (f"{word}__" for word in record.tokens)  # a word is a token or more, however short
