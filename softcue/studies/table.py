"""A sweep's results, as JSON and CSV: every run, and every point with mean and deviation over seeds."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from softcue import __version__
from softcue.adapter import Adapter
from softcue.base import Base
from softcue.files import JsonRecord
from softcue.studies.space import Point, told
from softcue.studies.trials import Outcome, Result, Terms

# columns of every sweep's CSV
RUN = ("data", "method", "rung", "seed", "epochs", "rows", "rate", "selection", "step")


@dataclass(frozen=True)
class Winner:
    """The best point on a data set, and its adapter, scored on rows that took no part in the choice."""

    data: str
    point: Point
    adapter: Adapter


@dataclass(frozen=True)
class SweepResult(JsonRecord):
    """All that a sweep found, as sweep.json has it."""

    softcue: str  # version
    backbone: str
    rungs: int
    data: tuple[Mapping[str, Any], ...]  # for each data set the points, best first, and the winner's scores
    together: Any  # the points over all data sets, where there are several
    runs: tuple[Mapping[str, Any], ...]
    seconds_of_training: float
    halving: bool
    budget: str | None
    seconds: float


def sweep_result(
    rungs: Sequence[Sequence[Result]],
    winners: Sequence[Winner],
    terms: Terms,
    base: Base,
    **how: Any,
) -> SweepResult:
    """Return all that a sweep found.

    how: halving, budget and seconds, as SweepResult has them.
    """
    runs = [
        (number, outcome)
        for number, rung in enumerate(rungs, 1)
        for result in rung
        for outcome in result.outcomes
    ]
    return SweepResult(
        softcue=__version__,
        backbone=base.backbone.name,
        rungs=len(rungs),
        data=tuple(_of_data(winner, runs, terms) for winner in winners),
        together=_together(runs, len(rungs), len(terms.data)),
        runs=tuple(_run(number, outcome) for number, outcome in runs),
        seconds_of_training=sum(result.seconds for rung in rungs for result in rung),
        **how,
    )


def sweep_csv(result: Mapping[str, Any]) -> str:
    """Return one line for each run, with a column for each setting that any point has."""
    names = dict.fromkeys(name for run in result["runs"] for name in run["settings"])
    settings = [name for name in names if name not in RUN]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*RUN, *settings])
    for run in result["runs"]:
        own = [_cell(run["settings"].get(name)) for name in settings]
        writer.writerow([*(run[name] for name in RUN), *own])
    return text.getvalue()


def file_name(data: str) -> str:
    """Turn a data set's name into a folder's: "glue/sst2" -> "glue-sst2"."""
    return re.sub(r"[^\w.-]+", "-", data).strip("-.") or "data"


def _of_data(winner: Winner, runs: Sequence[tuple[int, Outcome]], terms: Terms) -> dict[str, Any]:
    data = terms.data[winner.data]
    own = [(number, outcome) for number, outcome in runs if outcome.trial.data == data.name]
    # Each point is shown with the last rung that it reached. Points stand in the order in which that rung
    # trained them, which decides between equal scores.
    last: dict[str, list[tuple[int, Outcome]]] = {}
    for number, outcome in own:
        key = outcome.trial.point.key
        if key in last and last[key][0][0] < number:
            del last[key]
        last.setdefault(key, []).append((number, outcome))
    table = [_point(held) for held in last.values()]
    worst = float("-inf")
    table.sort(key=lambda row: (-row["rung"], -(worst if row["mean"] is None else row["mean"])))
    return {
        "data": data.name,
        "kind": data.kind,
        "metric": data.metric,
        "subset": data.subset,
        "warnings": data.warnings,
        "best": {
            "method": winner.point.method,
            "settings": dict(winner.point.settings),
            "seed": winner.adapter.seed,
            "scores": dict(winner.adapter.scores),
            "measured": winner.adapter.measured,
            "training": dict(winner.adapter.training),
        },
        "table": table,
    }


def _point(held: Sequence[tuple[int, Outcome]]) -> dict[str, Any]:
    number, first = held[0]
    scores = [outcome.score for _, outcome in held]
    numbers = [score for score in scores if score is not None]
    whole = len(numbers) == len(scores)
    return {
        "method": first.trial.point.method,
        "settings": dict(first.trial.point.settings),
        "rate": first.rate,
        "rung": number,
        "epochs": first.epochs,
        "rows": first.rows,
        "mean": mean(numbers) if whole else None,  # None: a seed diverged
        "deviation": stdev(numbers) if whole and len(numbers) > 1 else None,
        "seeds": scores,
    }


def _together(runs: Sequence[tuple[int, Outcome]], rungs: int, sets: int) -> list[dict[str, Any]]:
    """Return the points that the last rung trained on every data set, by their mean over all of them.

    With a single data set there are none.
    """
    points: dict[str, list[Outcome]] = {}
    for number, outcome in runs:
        if number == rungs and sets > 1:
            points.setdefault(outcome.trial.point.key, []).append(outcome)
    rows = []
    for held in points.values():
        numbers = [outcome.score for outcome in held if outcome.score is not None]
        if len({outcome.trial.data for outcome in held}) == sets and len(numbers) == len(held):
            point = held[0].trial.point
            rows.append({"method": point.method, "settings": dict(point.settings), "mean": mean(numbers)})
    return sorted(rows, key=lambda row: -row["mean"])


def _run(number: int, outcome: Outcome) -> dict[str, Any]:
    trial = outcome.trial
    return {
        "data": trial.data,
        "method": trial.point.method,
        "settings": dict(trial.point.settings),
        "rung": number,
        "seed": trial.seed,
        "selection": outcome.score,
        "step": outcome.step,
        "rate": outcome.rate,
        "epochs": outcome.epochs,
        "rows": outcome.rows,
    }


def _cell(value: Any) -> Any:
    return value if isinstance(value, float | None) else told(value)
