"""Trials: a point, trained on a data set with a seed, and how many of them share one packed loop."""

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

# jobs in one loop, at most: on a CPU more save no time, and a sweep that is killed loses the group it trains
SEATS_BY_DEVICE = {"cpu": 16, "cuda": 128}
# tokens in one step of a group, about: what the backward pass needs has to fit into memory
STEP_ROWS = {"cpu": 8_192, "cuda": 65_536}
LETTERS = 4  # in a token of English text, about
MEASURED_ROWS = 200  # training rows from which the length of an example is estimated


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
        """The training settings that differ from the preset's."""
        if self.epochs is None or method_class(self.point.method).frozen_outputs:
            return dict(self.point.training)
        return {**self.point.training, "epochs": self.epochs}


# Trials that are trained together. A group is trained as a whole or not at all, so that its dropout masks,
# and with them its scores, do not depend on what else is to be done.
Group = tuple[Trial, ...]


@dataclass(frozen=True)
class Outcome:
    """The result of one trial."""

    trial: Trial
    score: float | None  # on its selection rows; None: training diverged
    step: int  # at which that score was reached
    rate: float | None  # None: the method is fitted
    epochs: int
    rows: int  # training rows


@dataclass(frozen=True)
class Result:
    """A group's outcomes, in order, and for each data set the adapter of its best point's best seed."""

    outcomes: tuple[Outcome, ...]
    adapters: Mapping[str, Adapter]
    seconds: float

    @property
    def examples(self) -> int:
        """How many training examples the trials were to see, those of every epoch counted."""
        return sum(outcome.rows * outcome.epochs for outcome in self.outcomes)


@dataclass(frozen=True)
class Terms:
    """What all trials of a search have in common."""

    data: Mapping[str, Data]
    pooling: str | None = None
    limit: int = DEFAULT_LIMIT


class SearchObserver:
    """What a search calls as it goes on; this observer does nothing."""

    def rung(self, number: int, count: int, groups: Sequence[Group], terms: Terms) -> None:
        """Note that rung `number` (from 1) of `count` begins."""

    def step(self, prepared: Prepared, run: TrainingRun) -> None:
        """Note that a run has made a step."""

    def result(self, result: Result) -> None:
        """Note that a group is finished."""


def run_group(group: Group, terms: Terms, base: Base, report: Report = lambda prepared, run: None) -> Result:
    """Train the trials of a group in one packed loop."""
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
            adapter
            for adapter, trial in zip(adapters, group, strict=True)
            if adapter is not None and trial.data == name and trial.point.key == winner
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
    return Outcome(trial, score, step, adapter.training.get("rate"), training.epochs, rows)


def make_job(trial: Trial, terms: Terms) -> Job:
    """Return the job of a trial: a tenth of train selects, and nothing is reported."""
    data = terms.data[trial.data]
    whole = select(data, trial.seed, from_train=True)
    train = draw(whole.train, trial.rows, trial.seed)
    chosen = draw(whole.select, trial.select, trial.seed)
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
    """Draw at most `count` of the records by the seed, and return them in their own order."""
    if count is None or count >= len(records):
        return records
    order = torch.randperm(len(records), generator=torch.Generator().manual_seed(seed)).tolist()
    return [records[i] for i in sorted(order[:count])]


def ranked(outcomes: Sequence[Outcome]) -> list[Point]:
    """Return the points of one data set's outcomes, the best mean over seeds first.

    Of equals the earlier comes first. Points that diverged come last.
    """
    points = {outcome.trial.point.key: outcome.trial.point for outcome in outcomes}
    scores: dict[str, list[float | None]] = {key: [] for key in points}
    for outcome in outcomes:
        scores[outcome.trial.point.key].append(outcome.score)
    return [points[key] for key in sorted(points, key=lambda key: -mean(scores[key]))]


def mean(scores: Sequence[float | None]) -> float:
    """Return the mean of the scores, or minus infinity if a run diverged."""
    numbers = [float("-inf") if score is None else score for score in scores]
    return sum(numbers) / len(numbers)


def device_of(base: Base) -> str:
    """Return the type of the encoder's device: cpu or cuda."""
    return next(base.backbone.encoder.parameters()).device.type


def group_trials(trials: Sequence[Trial], terms: Terms, device: str) -> list[Group]:
    """Put trials that can share a loop into groups, each as large as the device allows.

    All seeds of a point on a data set stay in one group.
    """
    seats = SEATS_BY_DEVICE[device]
    rows_at_most = STEP_ROWS[device]
    by_point: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        by_point.setdefault((trial.point.key, trial.data), []).append(trial)
    groups: dict[Any, list[list[Trial]]] = {}
    for own in by_point.values():
        method = method_class(own[0].point.method)
        shape = method.shape(settled_config(own[0], terms))
        of_shape = groups.setdefault((method.method, shape, trial_training(own[0], terms).shape), [[]])
        last = of_shape[-1]
        together = [*last, *own]
        fits = len(together) <= seats and sum(step_rows(trial, terms) for trial in together) <= rows_at_most
        if fits or not last:
            last += own
        else:
            of_shape.append(list(own))
    return [tuple(group) for of_shape in groups.values() for group in of_shape]


def trial_training(trial: Trial, terms: Terms) -> Training:
    """Return a trial's training settings."""
    data = terms.data[trial.data]
    return preset(trial.point.method, data.kind, len(data.splits["train"]), trial.training)


def settled_config(trial: Trial, terms: Terms) -> Any:
    """Return the config of a trial's method."""
    return make_config(method_class(trial.point.method), terms.data[trial.data].kind, trial.point.own)


def step_rows(trial: Trial, terms: Terms) -> int:
    """Estimate the number of tokens in a step of a trial."""
    data = terms.data[trial.data]
    tokens = [sum(map(len, _texts(record))) / LETTERS for record in data.splits["train"][:MEASURED_ROWS]]
    example = min(terms.limit, sum(tokens) / len(tokens))
    return round(trial_training(trial, terms).batch * example)


def _texts(record: Record) -> Iterator[str]:
    yield from (text for text in (record.text, record.pair, *record.choices) if text)
    # A word is at least one token, however short: two letters more keep its estimate near one.
    yield from (f"{word}__" for word in record.tokens)
