"""A sweep's plot: score over learning rate, with a line for each method and its other settings."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from softcue.files import write_file
from softcue.studies.space import told

DOTS = 120  # per inch of a picture


def plot(result: Mapping[str, Any], file: Path, say: Callable[[str], None]) -> None:
    """Write the plot as PNG, or say how to install matplotlib if it is missing."""
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
    write_file(file, as_png(figure))


def as_png(figure: Any) -> bytes:
    """Return the PNG file of a matplotlib figure."""
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=DOTS)
    return held.getvalue()


def rate_lines(result: Mapping[str, Any], data: str) -> dict[str, list[tuple[float, float]]]:
    """Return what is drawn for a data set: for each label, pairs of rate and mean score over seeds.

    The pairs are in the order of the rates. Each rung has lines of its own.
    """
    scores: dict[str, dict[float, list[float]]] = {}
    for run in result["runs"]:
        if run["data"] != data or run["selection"] is None or run["rate"] is None:
            continue
        words = [run["method"]]
        words += [f"{name}={told(value)}" for name, value in run["settings"].items() if name != "rate"]
        if result["rungs"] > 1:
            words.append(f"({run['epochs']} epochs of {run['rows']:,} rows)")
        by_rate = scores.setdefault(" ".join(words), {})
        by_rate.setdefault(run["rate"], []).append(run["selection"])
    lines = {}
    for label, by_rate in scores.items():
        lines[label] = sorted((rate, sum(of_rate) / len(of_rate)) for rate, of_rate in by_rate.items())
    return lines
