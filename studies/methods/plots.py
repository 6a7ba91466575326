"""Plots of the study: the mean score of each method over what it costs."""

from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from softcue.files import write_file
from softcue.studies.plot import as_png
from studies.methods.plan import CORE, METHODS, MINILM, ROWS
from studies.methods.summary import Cells, cost_of, score_of

AXES = (
    ("trained", "trained parameters, without the head"),
    ("kilobytes", "kilobytes of cue and head"),
    ("seconds", "processor seconds of training"),
)
BUDGET = f"{ROWS}-rows"
BLUE, ORANGE = "#0072b2", "#d55e00"  # told apart by colour-blind readers


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
        points = [(max(getattr(costs[arm], name), 1.0), score, arm) for arm, score in means.items()]
        front = [p for p in points if not any(q[0] <= p[0] and q[1] > p[1] for q in points)]
        for x, y, arm in points:
            axis.plot(x, y, "o", color=ORANGE if (x, y, arm) in front else BLUE)
            axis.annotate(arm, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
        axis.set_xscale("log")
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"mean score of {len(sets)} sets")
    figure.suptitle("MiniLM, orange: nothing cheaper is better")
    write_file(folder / "results-cost.png", as_png(figure))
