"""What the check of the presets adds to the study: six other sets, 2,000 rows, three seeds, most methods.

scripts/check_presets.py measured them. They chose nothing, as the study's sets do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from scripts.choosing import NAMES, gain, held_back_of, kilobytes
from scripts.presets_page import score
from softcue.training.full import METHOD as FULL
from studies.methods.plan import MAJORITY
from studies.methods.summary import Difference

Results = Sequence[Mapping[str, Any]]  # as scripts.presets_page.checked returns them


@dataclass(frozen=True)
class Point:
    """A method's mean score over the sets of a kind, and what it costs."""

    method: str
    score: float
    kilobytes: float  # in float32, without the head


def held_back_difference(results: Results, arm: str, other: str) -> Difference:
    """Compare two methods by their means over seeds, on the sets that both have."""
    return Difference({name: points / 100 for name, points in gain(results, arm, other)})


def held_back_points(results: Results, encoder_parameters: int) -> dict[str, list[Point]]:
    """Return the methods of each kind of set: labels and tags."""
    found = {}
    for kind, name in NAMES.items():
        own = held_back_of(results, kind)
        methods = [method for method in own[0]["table"] if method != MAJORITY]
        found[name] = [
            Point(
                method,
                mean(score(result, method) for result in own),
                encoder_parameters * 4 / 1024 if method == FULL else kilobytes(method, kind),
            )
            for method in methods
        ]
    return found
