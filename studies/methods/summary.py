"""What the cells say together: means over seeds, and differences between two arms."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from scipy.stats import t

Cells = Mapping[tuple[str, str, str, str], Mapping[int, Mapping[str, Any]]]


@dataclass(frozen=True)
class Score:
    """The first metric of one arm on one data set."""

    mean: float
    deviation: float | None  # sample deviation over seeds; None: one seed
    seeds: int


@dataclass(frozen=True)
class Difference:
    """How far one arm is above another, set by set, each the mean over the seeds that both have."""

    by_set: Mapping[str, float]

    @property
    def mean(self) -> float:
        """The mean over the sets."""
        return mean(self.by_set.values())

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval of the mean, by Student's t over the sets; two sets are needed."""
        values = list(self.by_set.values())
        return float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5

    @property
    def verdict(self) -> str:
        """Say what the interval allows to say."""
        if len(self.by_set) < 2:
            return "too few sets"
        if self.mean > self.half_width:
            return "above"
        return "below" if self.mean < -self.half_width else "not told apart"


def read_study(folder: Path) -> Cells:
    """Return the cells of a folder by (encoder, data, budget, arm) and seed."""
    found: dict[tuple[str, str, str, str], dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for file in sorted(folder.glob("*/*/*/*.json")):
        cell = json.loads(file.read_text(encoding="utf-8"))
        budget = file.parent.name
        found[cell["encoder"], cell["data"], budget, cell["arm"]][cell["seed"]] = cell
    return dict(found)


def first_metric(cell: Mapping[str, Any]) -> float:
    """Return the cell's score in the metric that selects."""
    return float(cell["scores"][cell["metrics"][0]])


def score_of(cells: Cells, encoder: str, data: str, budget: str, arm: str) -> Score | None:
    """Return the mean over the seeds that are there, or None."""
    own = [first_metric(cell) for cell in cells.get((encoder, data, budget, arm), {}).values()]
    if not own:
        return None
    return Score(mean(own), stdev(own) if len(own) > 1 else None, len(own))


def difference(
    cells: Cells, encoder: str, sets: Sequence[str], budget: str, arm: str, other: str
) -> Difference:
    """Compare two arms seed by seed, on the sets and seeds that both have."""
    by_set = {}
    for data in sets:
        ours, theirs = (cells.get((encoder, data, budget, name), {}) for name in (arm, other))
        both = sorted(set(ours) & set(theirs))
        if both:
            by_set[data] = mean(first_metric(ours[seed]) - first_metric(theirs[seed]) for seed in both)
    return Difference(by_set)


@dataclass(frozen=True)
class Cost:
    """What one arm costs on an encoder: medians over its cells."""

    trained: float  # parameters, without the head's
    kilobytes: float  # of cue and head in float32
    seconds: float  # of one processor core


def cost_of(cells: Cells, encoder: str, sets: Sequence[str], budget: str, arm: str) -> Cost | None:
    """Return the medians over sets and seeds, or None where the arm has no cell."""
    own = [cell for data in sets for cell in cells.get((encoder, data, budget, arm), {}).values()]
    if not own:
        return None
    return Cost(
        median(cell["parameters"] for cell in own),
        median((cell["parameters"] + cell["head"]) * 4 / 1024 for cell in own),
        median(cell["seconds"]["processor"] for cell in own),
    )
