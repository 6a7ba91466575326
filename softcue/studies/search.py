"""Search: all points trained in full, or successive halving over them in rungs, under a budget."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from softcue.base import Base
from softcue.errors import RequestError
from softcue.options import shortened
from softcue.readers.splits import select
from softcue.studies.space import Point
from softcue.studies.trials import (
    Group,
    Result,
    SearchObserver,
    Terms,
    Trial,
    group_trials,
    ranked,
    run_group,
    trial_training,
)

CUT = 3  # a third of the points goes on to the next rung
SELECTED = 1_000  # selection rows of a halving's trials, at most: a score's deviation is then 1.5 points
STEPS = 20  # of a trial, at least: with fewer, not even warm-up ends
TASTE = 8  # steps of the runs that measure speed, for a budget of time
UNITS = {"s": 1, "m": 60, "h": 3600}

# a function that trains groups, and yields the number and the result of each when it is finished
Runner = Callable[[Sequence[Group]], Iterator[tuple[int, Result]]]


@dataclass(frozen=True)
class Budget:
    """What all trials of a halving may take together: training examples, or seconds.

    With neither, the last rung trains in full.
    """

    examples: int | None = None
    seconds: float | None = None


def read_budget(text: str) -> Budget:
    """Read a budget from "10m", "90s", "1.5h" or a number of examples.

    Raises RequestError for anything else.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smh])", text.strip())
    if found and float(found[1]) > 0:
        return Budget(seconds=float(found[1]) * UNITS[found[2]])
    digits = text.strip().replace("_", "")
    if digits.isdecimal() and len(digits) < 16 and int(digits) > 0:
        return Budget(examples=int(digits))
    raise RequestError(
        f"budget {shortened(text)} came; expected a time, as in 10m or 1.5h, or a number of examples, "
        "as in 200_000"
    )


def here(terms: Terms, base: Base, watch: SearchObserver) -> Runner:
    """Return a runner that trains in this process, one group after the other."""

    def run(groups: Sequence[Group]) -> Iterator[tuple[int, Result]]:
        for number, group in enumerate(groups):
            yield number, run_group(group, terms, base, watch.step)

    return run


def search(
    points: Sequence[Point],
    seeds: Sequence[int],
    terms: Terms,
    device: str,
    runner: Runner,
    watch: SearchObserver,
) -> list[Result]:
    """Train every point with every seed on every data set."""
    trials = [Trial(point, name, seed) for name in terms.data for point in points for seed in seeds]
    return _train(trials, 1, 1, terms, device, runner, watch)


def halve(
    points: Sequence[Point],
    seeds: Sequence[int],
    terms: Terms,
    budget: Budget,
    device: str,
    runner: Runner,
    watch: SearchObserver,
    width: int = 1,
) -> list[list[Result]]:
    """Search by successive halving (Jamieson and Talwalkar, 2016), and return the results by rung.

    The best third of each rung goes on, on each data set by itself. A rung trains its points from the
    beginning, with a whole schedule of its own. So what is compared is what such a training would give, and
    rungs and groups can be trained anywhere and in any order.

    width: groups that the runner trains at the same time.

    A budget that is too small for a rung's shortest trials is exceeded. Raises RequestError if a point
    settles the number of epochs.
    """
    if any("epochs" in point.settings for point in points):
        raise RequestError(
            "halving decides on epochs by its rungs and budget; leave it out, or sweep without halving"
        )
    sizes = rung_sizes(len(points))
    left = {name: list(points) for name in terms.data}
    spent = [] if budget.seconds is None else _taste(points, terms, device, runner)
    rungs: list[list[Result]] = []
    for number in range(len(sizes)):
        runs = sum(map(len, left.values())) * len(seeds)
        each = _share(budget, number, sizes, runs, spent, width)
        part = CUT ** (len(sizes) - 1 - number)
        full = [Trial(point, name, seed) for name, own in left.items() for point in own for seed in seeds]
        trials = [_cut_to(trial, each, part, terms) for trial in full]
        results = _train(trials, number + 1, len(sizes), terms, device, runner, watch)
        rungs.append(results)
        spent += results
        outcomes = [outcome for result in results for outcome in result.outcomes]
        if number + 1 < len(sizes):
            for name in left:
                best = ranked([outcome for outcome in outcomes if outcome.trial.data == name])
                left[name] = best[: sizes[number + 1]]
    return rungs


def rung_sizes(points: int) -> list[int]:
    """Return how many points each rung has: 27 -> [27, 9, 3].

    The last rung has at most three, so that the winner is chosen among full trainings.
    """
    sizes = [points]
    while sizes[-1] > CUT:
        sizes.append(-(-sizes[-1] // CUT))
    return sizes


def _train(
    trials: Sequence[Trial],
    number: int,
    count: int,
    terms: Terms,
    device: str,
    runner: Runner,
    watch: SearchObserver,
) -> list[Result]:
    groups = group_trials(trials, terms, device)
    watch.rung(number, count, groups, terms)
    by_number: dict[int, Result] = {}
    for at, result in runner(groups):
        watch.result(result)
        by_number[at] = result
    results = [by_number[at] for at in range(len(groups))]
    if all(outcome.score is None for result in results for outcome in result.outcomes):
        raise RequestError("training diverged at every point; lower the rates, or set clip")
    return results


def _share(
    budget: Budget, number: int, sizes: Sequence[int], runs: int, spent: Sequence[Result], width: int
) -> float | None:
    """Return how many examples each run of a rung may take, or None without a budget.

    runs: how many the rung has. spent: the results so far, those of _taste first.
    """
    if budget.examples is not None:
        return budget.examples / len(sizes) / runs
    if budget.seconds is None:
        return None
    # The first steps are slower than later ones, so that _taste's speed counts only while there is no other.
    measured = spent[-1:] if number == 0 else spent[1:]
    speed = width * sum(result.examples for result in measured) / sum(result.seconds for result in measured)
    seconds = max(0.0, budget.seconds - sum(result.seconds for result in spent) / width)
    rungs_left = len(sizes) - number
    return speed * seconds / rungs_left / runs


def _cut_to(trial: Trial, examples: float | None, part: int, terms: Terms) -> Trial:
    """Return the trial with as many epochs, or rows, as the examples allow.

    examples: None is a `part`-th of a full training. It is never more than a full training, and at least
    STEPS steps, or a full training that is shorter.
    """
    rows = len(select(terms.data[trial.data], trial.seed, from_train=True).train)
    training = trial_training(trial, terms)
    full = training.epochs * rows
    least = min(full, STEPS * training.batch)
    allowed = full / part if examples is None else examples
    wanted = max(min(full, allowed), least)
    if wanted < rows:
        return Trial(trial.point, trial.data, trial.seed, 1, round(wanted), SELECTED)
    return Trial(trial.point, trial.data, trial.seed, max(1, int(wanted / rows)), None, SELECTED)


def _taste(points: Sequence[Point], terms: Terms, device: str, runner: Runner) -> list[Result]:
    """Train the first group for a few steps, to learn how fast they are."""
    name = next(iter(terms.data))
    trials = []
    for point in points:
        rows = TASTE * trial_training(Trial(point, name, 0), terms).batch
        trials.append(Trial(point, name, 0, epochs=1, rows=rows, select=STEPS))
    first = group_trials(trials, terms, device)[:1]
    return [result for _, result in runner(first)]
