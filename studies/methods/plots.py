"""Plots of the study: the mean score of each method over what it costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softcue.files import write_file
from softcue.studies.plot import as_png
from studies.methods.held_back import Point
from studies.methods.plan import CORE, METHODS, MINILM, ROWS, grade_of
from studies.methods.summary import Cells, cost_of, score_of

AXES = (
    ("trained", "trained parameters, without the head"),
    ("kilobytes", "kilobytes of cue and head"),
    ("seconds", "processor seconds of training"),
)
BUDGET = f"{ROWS}-rows"
BLUE, ORANGE = "#0072b2", "#d55e00"  # told apart by colour-blind readers
TITLE = "MiniLM. Orange: nothing cheaper is better. *: wholly or partly a reconstruction"
NEAR = 2.5, 0.05  # times the cost, and share of the scores' range: a label between such points has no room


def every_method(cells: Cells) -> list[str]:
    """Return the core's sets that every method has a cell of."""
    return [
        data
        for data in CORE
        if all(score_of(cells, MINILM, data, BUDGET, arm) is not None for arm in METHODS[1:])
    ]


def draw_plots(cells: Cells, folder: Path) -> None:
    """Write results-cost.png, of the sets that every method has; nothing where there is none."""
    sets = every_method(cells)
    if not sets:
        return
    means = {
        arm: mean(s.mean for data in sets if (s := score_of(cells, MINILM, data, BUDGET, arm)) is not None)
        for arm in METHODS[1:]
    }
    costs = {arm: cost_of(cells, MINILM, sets, BUDGET, arm) for arm in means}
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    for axis, (name, label) in zip(axes, AXES, strict=True):
        _scatter(axis, [(getattr(costs[arm], name), score, arm) for arm, score in means.items()], label)
    axes[0].set_ylabel(f"mean score of {len(sets)} sets")
    figure.suptitle(TITLE)
    write_file(folder / "results-cost.png", as_png(figure))


def draw_held_back(points: Mapping[str, Sequence[Point]], folder: Path) -> None:
    """Write results-held-back.png, with a panel for each kind of set."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for axis, (name, own) in zip(figure.subplots(1, len(points)), points.items(), strict=True):
        _scatter(axis, [(p.kilobytes, p.score, p.method) for p in own], "kilobytes, without the head")
        axis.set_ylabel(f"mean score, {name}")
    figure.suptitle(TITLE)
    write_file(folder / "results-held-back.png", as_png(figure))


def _scatter(axis: Axes, points: Sequence[tuple[float, float, str]], label: str) -> None:
    """Draw (cost, score, method) with a logarithmic scale of costs; a cost below 1 stands at 1."""
    shown = [(max(cost, 1.0), score, method) for cost, score, method in points]
    front = [p for p in shown if not any(q[0] <= p[0] and q[1] > p[1] for q in shown)]
    scores = [score for _, score, _ in shown]
    near = NEAR[1] * (max(scores) - min(scores))
    for point in shown:
        x, y, method = point
        crowded = any(x < q[0] < NEAR[0] * x and abs(q[1] - y) < near for q in shown)
        place, side = ((-6, -3), "right") if crowded else ((6, -3), "left")
        name = f"{method}*" if grade_of(method) else method
        axis.plot(x, y, "o", color=ORANGE if point in front else BLUE)
        axis.annotate(name, (x, y), xytext=place, textcoords="offset points", fontsize=8, ha=side)
    axis.set_xscale("log")
    axis.margins(x=0.12)
    axis.set_xlabel(label)
    axis.grid(alpha=0.3)
