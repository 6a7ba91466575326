"""Plots of the study: the mean score of each method over what it costs."""

from pathlib import Path
from statistics import mean

from studies.methods.plan import CORE, METHODS, MINILM, ROWS
from studies.methods.summary import Cells, cost_of, score_of

AXES = (
    ("trained", "trained numbers, head left out"),
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
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sets, arms = every_method(cells), METHODS[1:]
    if not sets:
        return
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4.2), sharey=True)
    for axis, (name, label) in zip(axes, AXES, strict=True):
        points = []
        for arm in arms:
            cost = cost_of(cells, MINILM, sets, BUDGET, arm)
            scores = [score_of(cells, MINILM, data, BUDGET, arm) for data in sets]
            assert cost is not None
            points.append((max(getattr(cost, name), 1.0), mean(s.mean for s in scores if s is not None), arm))
        front = [p for p in points if not any(q[0] <= p[0] and q[1] > p[1] for q in points)]
        for x, y, arm in points:
            axis.plot(x, y, "o", color=ORANGE if (x, y, arm) in front else BLUE)
            axis.annotate(arm, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
        axis.set_xscale("log")
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"mean score of {len(sets)} sets")
    figure.suptitle("MiniLM, orange: nothing cheaper is better")
    figure.tight_layout()
    figure.savefig(folder / "results-cost.png", dpi=120, metadata={"Software": None})
    pyplot.close(figure)
