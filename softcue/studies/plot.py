"""A sweep's plot: score over learning rate, a line for each method with its other settings."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from softcue.files import write_file
from softcue.studies.space import told


def plot(result: Mapping[str, Any], file: Path, say: Callable[[str], None]) -> None:
    """Write the plot as PNG; without matplotlib say how to have it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        say("no plot: matplotlib is not installed (pip install 'softcue[plots]'); sweep.csv has its numbers")
        return
    sets = result["data"]
    figure = Figure(figsize=(7, 4.2 * len(sets)), layout="constrained")
    for axes, own in zip(figure.subplots(len(sets), squeeze=False)[:, 0], sets, strict=True):
        for label, points in rate_lines(result, own["data"]).items():
            rates, scores = zip(*points, strict=True)
            axes.plot(rates, scores, marker="o", label=label)
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel(f"{own['metric']} on the selection rows")
        axes.set_title(own["data"])
        if axes.lines:
            axes.legend(fontsize="small")
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=120)
    write_file(file, held.getvalue())


def rate_lines(result: Mapping[str, Any], data: str) -> dict[str, list[tuple[float, float]]]:
    """Return a data set's lines: label -> (rate, mean score over seeds), by rate.

    A rung's points are lines of their own.
    """
    scores: dict[str, dict[float, list[float]]] = {}
    for run in result["runs"]:
        if run["data"] == data and run["selection"] is not None:
            others = [f"{name}={told(value)}" for name, value in run["settings"].items() if name != "rate"]
            rung = [f"({run['epochs']} epochs of {run['rows']:,} rows)"] if result["rungs"] > 1 else []
            label = " ".join([run["method"], *others, *rung])
            scores.setdefault(label, {}).setdefault(run["rate"], []).append(run["selection"])
    return {
        label: sorted((rate, sum(of) / len(of)) for rate, of in by_rate.items())
        for label, by_rate in scores.items()
    }
