"""Auto: a short packed search of the learning rate before a training."""

from collections.abc import Callable
from dataclasses import replace

from softcue.base import Base
from softcue.errors import RequestError
from softcue.options import is_finite, shortened
from softcue.studies.search import Budget, halve, here
from softcue.studies.space import Point, usual_rates
from softcue.studies.trials import Outcome, SearchObserver, Terms, device_of, mean, ranked
from softcue.training.full import METHOD as FULL
from softcue.training.job import Job, Prepared, method_class
from softcue.training.jobs import Report
from softcue.training.run import TrainingRun
from softcue.training.settings import steps_settings

MOST_MINUTES = 100_000  # some seventy days


def choose_rate(job: Job, base: Base, minutes: float, report: Report, say: Callable[[str], None]) -> Job:
    """Return the job with the best of some rates around its preset.

    They are compared by halving on a tenth of its training rows.

    Raises RequestError for what leaves nothing to choose.
    """
    if not is_finite(minutes) or not 0 < minutes <= MOST_MINUTES:
        raise RequestError(
            f"auto {shortened(minutes)} came; expected minutes, more than 0 and at most {MOST_MINUTES:,}"
        )
    if job.method == FULL:
        raise RequestError(
            "full fine-tuning has no short search: a run of it does not share the encoder; set rate yourself"
        )
    if not steps_settings(method_class(job.method)):
        raise RequestError(f"{job.method} is fitted and has no rate to search; leave auto (--auto) out")
    if "rate" in job.training:
        raise RequestError(
            f"a rate of {job.training['rate']:g} came, which is what auto is to find; leave one of them out"
        )
    same = {**job.settings, **{name: value for name, value in job.training.items() if name != "epochs"}}
    rates = usual_rates(job.method, job.data.kind, len(job.data.splits.get("train", ())))
    points = [Point(job.method, {**same, "rate": rate}) for rate in rates]
    terms, watch = Terms({job.data.name: job.data}, job.pooling, job.limit), _Reporting(report)
    rungs = halve(
        points,
        [job.seed],
        terms,
        Budget(seconds=60 * minutes),
        device_of(base),
        here(terms, base, watch),
        watch,
    )
    outcomes: list[Outcome] = [outcome for result in rungs[-1] for outcome in result.outcomes]
    best = ranked(outcomes)[0]
    score = mean([outcome.score for outcome in outcomes if outcome.trial.point.key == best.key])
    say(
        f"auto: rate {best.settings['rate']:g}, of {len(rates)} from {rates[0]:g} to {rates[-1]:g}; "
        f"{job.data.metric} {score:.4f} then"
    )
    return replace(job, training={**job.training, "rate": best.settings["rate"]})


class _Reporting(SearchObserver):
    def __init__(self, report: Report) -> None:
        self.report = report

    def step(self, prepared: Prepared, run: TrainingRun) -> None:
        self.report(prepared, run)
