"""What a sweep tries: points on a grid of settings, or drawn from ranges."""

import json
import math
import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from softcue.errors import SettingsError
from softcue.options import check_whole, is_finite
from softcue.training.job import make_config, method_class
from softcue.training.settings import TRAINING, own_settings, preset, steps_settings

FACTORS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the preset's rate, where nobody says what to try
MOST_POINTS = 10_000  # points of a sweep
MOST_SEEDS, MOST_RUNS = 1_000, 100_000  # of a sweep or a comparison
SYNONYMS = {"lr": "rate"}  # on the command line only


@dataclass(frozen=True)
class Point:
    """A method with what a sweep sets of it; settings the method's own and training's together."""

    method: str
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        return " ".join([self.method, *(f"{name}={told(value)}" for name, value in self.settings.items())])

    @property
    def key(self) -> str:
        """Equal for equal points, and ready for a dictionary."""
        return json.dumps([self.method, self.settings], sort_keys=True)

    @property
    def own(self) -> dict[str, Any]:
        """What the method's config takes."""
        return {name: value for name, value in self.settings.items() if name not in TRAINING}

    @property
    def training(self) -> dict[str, Any]:
        """What Training takes."""
        return {name: value for name, value in self.settings.items() if name in TRAINING}


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included.

    They are whole, or drawn by their logarithm where they are rates, or evenly.
    """

    low: float
    high: float
    log: bool = False

    def draw(self, chance: random.Random) -> float:
        """Draw a number, rounded to four digits so that it can be typed again."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return chance.randint(self.low, self.high)
        ends = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        drawn = math.exp(chance.uniform(*ends)) if self.log else chance.uniform(*ends)
        return min(max(_rounded(drawn), self.low), self.high)


def read_grid(given: Sequence[str]) -> dict[str, list[Any]]:
    """Parse ["lr=1e-3,5e-3", "plan=preset"] to {"rate": [0.001, 0.005], "plan": ["preset"]}.

    Raises RequestError.
    """
    grid: dict[str, list[Any]] = {}
    for item in given:
        name, text = _named(item, "--grid", "rate=1e-3,5e-3")
        if name in grid:
            raise SettingsError(
                f"--grid names {name} twice; give all its values at once, with commas between"
            )
        try:
            values = tomllib.loads(f"value = [{text}]")["value"]
        except (ValueError, RecursionError):
            values = [_value(word.strip()) for word in text.split(",")]
        if len(values) > MOST_POINTS:
            raise SettingsError(
                f"--grid gives {len(values):,} values of {name}; expected at most {MOST_POINTS:,}"
            )
        # by what they are written as: 1 and 1.0 are two values, and lists cannot be hashed
        grid[name] = list({json.dumps(value, default=str): value for value in values}.values())
    return grid


def read_ranges(given: Sequence[str]) -> dict[str, Range]:
    """Parse ["rate=1e-3..1e-1"] to {"rate": Range(0.001, 0.1, log=True)}; whole numbers stay whole.

    Raises RequestError.
    """
    ranges: dict[str, Range] = {}
    for item in given:
        name, text = _named(item, "--range", "rate=1e-3..1e-1")
        low, high = (_number(part.strip()) for part in text.split("..", 1)) if ".." in text else (None, None)
        if low is None or high is None or low > high:
            raise SettingsError(
                f"--range {item!r} is not NAME=LOW..HIGH with LOW at most HIGH, as in rate=1e-3..1e-1 or "
                "length=4..32"
            )
        log = name == "rate"
        if log and low <= 0:
            raise SettingsError(
                f"--range {item!r}: rates are drawn by their logarithm; expected both ends above 0"
            )
        if name in ranges:
            raise SettingsError(f"--range names {name} twice; expected it once")
        ranges[name] = Range(float(low), float(high), log) if log else Range(low, high)
    return ranges


def grid_points(
    methods: Sequence[str], grid: Mapping[str, Sequence[Any]], fixed: Mapping[str, Any]
) -> list[Point]:
    """Return every combination, for each method of what it has; `fixed` goes to all.

    Raises RequestError for what no method has.
    """
    taken = _taken(methods, [*fixed, *grid])
    asked = sum(
        math.prod(len(values) for name, values in grid.items() if name in taken[method]) for method in methods
    )
    if asked > MOST_POINTS:
        raise SettingsError(
            f"the grid has {asked:,} points; expected at most {MOST_POINTS:,}: draw some (--random N), or "
            "list fewer values"
        )
    points = []
    for method in methods:
        names = [name for name in grid if name in taken[method]]
        same = {name: value for name, value in fixed.items() if name in taken[method]}
        points += [
            Point(method, {**same, **dict(zip(names, values, strict=True))})
            for values in product(*(grid[name] for name in names))
        ]
    return points


def random_points(
    methods: Sequence[str],
    grid: Mapping[str, Sequence[Any]],
    ranges: Mapping[str, Range],
    draws: int,
    fixed: Mapping[str, Any],
) -> list[Point]:
    """Draw so many points for each method, from ranges and from the lists of a grid.

    More draws begin with the same ones.
    """
    both = sorted(set(grid) & set(ranges))
    if both:
        raise SettingsError(f"{', '.join(both)} came as a grid and as a range; expected one of them")
    taken = _taken(methods, [*fixed, *grid, *ranges])
    if draws * len(methods) > MOST_POINTS:
        raise SettingsError(
            f"random {draws:,} came for {len(methods)} methods; expected at most {MOST_POINTS:,} points in "
            "all"
        )
    points: list[Point] = []
    known: set[str] = set()
    for method, number in product(methods, range(draws)):
        settings = {name: value for name, value in fixed.items() if name in taken[method]}
        for name in (*grid, *ranges):
            # of the name, so that one more range leaves the others' draws alone
            chance = random.Random(f"{name} {number}")
            if name in taken[method]:
                settings[name] = ranges[name].draw(chance) if name in ranges else chance.choice(grid[name])
        point = Point(method, settings)
        known.add(point.key)
        points += [point] if len(known) > len(points) else []
    return points


def usual_rates(method: str, kind: str, rows: int) -> list[float]:
    """Return rates around the method's preset; none where it is fitted."""
    if not steps_settings(method_class(method)):
        return []
    usual = preset(method, kind, rows, {}).rate
    return [_rounded(usual * factor) for factor in FACTORS]


def check_points(points: Sequence[Point], kind: str) -> None:
    """Build every point's config and training settings. Raises RequestError for the first that cannot be."""
    for point in points:
        make_config(method_class(point.method), kind, point.own)
        preset(point.method, kind, 1, point.training)


def check_seeds(seeds: int, runs: int) -> None:
    """Refuse so many seeds, or so many runs with each, that nobody can want them. Raises RequestError."""
    check_whole("seeds", seeds, 1, MOST_SEEDS)
    if seeds * runs > MOST_RUNS:
        raise SettingsError(
            f"{seeds:,} seeds of {runs:,} runs are {seeds * runs:,}; expected at most {MOST_RUNS:,} in all"
        )


def told(value: Any) -> str:
    """Return a setting's value as it is shown."""
    return (
        f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    )


def _taken(methods: Sequence[str], names: Sequence[str]) -> dict[str, set[str]]:
    """Return the settings that each method has, training's with them.

    SettingsError for a name that none has.
    """
    return {
        method: own | steps_settings(method_class(method))
        for method, own in own_settings({name: method_class(name) for name in methods}, names).items()
    }


def _named(item: str, flag: str, example: str) -> tuple[str, str]:
    name, _, text = item.partition("=")
    if not name.strip() or not text.strip():
        raise SettingsError(f"{flag} {item!r} is not of the form NAME=..., as in {flag} {example}")
    return SYNONYMS.get(name.strip(), name.strip()), text


def _number(word: str) -> int | float | None:
    value = _value(word)
    return value if is_finite(value) else None


def _value(word: str) -> Any:
    """Parse TOML, or else take a word."""
    try:
        return tomllib.loads(f"value = {word}")["value"]
    except (ValueError, RecursionError):
        return word


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
