"""The comparison's table: mean and deviation over seeds, as Markdown and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from softcue.errors import one_line

PROBE_NOTE = "probe is the head alone, fitted to the encoder's outputs without steps."


@dataclass(frozen=True)
class TableRow:
    """One method: its scores by seed, and what it costs; None where nothing was trained."""

    method: str
    scores: Sequence[Mapping[str, float]]
    parameters: int | None = None
    share: float | None = None  # of the encoder's parameters
    head: int | None = None
    kilobytes: float | None = None
    seconds: float | None = None


def row_summary(row: TableRow, metrics: Sequence[str]) -> dict[str, Any]:
    """Return a row with the mean and the sample deviation of each metric, ready for JSON.

    The deviation of one seed is None.
    """
    by_metric = {name: [scores[name] for scores in row.scores] for name in metrics}
    scores = {
        name: {"mean": mean(v), "deviation": stdev(v) if len(v) > 1 else None, "seeds": v}
        for name, v in by_metric.items()
    }
    cost = {
        "parameters": row.parameters,
        "share": row.share,
        "head": row.head,
        "kilobytes": row.kilobytes,
        "seconds": row.seconds,
    }
    return {"method": row.method, "scores": scores, **cost}


def compare_csv(result: Mapping[str, Any]) -> str:
    """Return one line for each method, numbers in full."""
    columns = [f"{name}_{part}" for name in result["metrics"] for part in ("mean", "deviation")]
    cost = ("parameters", "share", "head", "kilobytes", "seconds")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", *columns, *cost])
    for row in result["table"]:
        scores = [row["scores"][name][part] for name in result["metrics"] for part in ("mean", "deviation")]
        writer.writerow([row["method"], *scores, *(row[name] for name in cost)])
    return text.getvalue()


def compare_markdown(result: Mapping[str, Any]) -> str:
    """Return the table for people, with what has to be known to read it underneath."""
    head = ["method", *result["metrics"], "parameters", "of the encoder", "adapter KB", "seconds"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(cells(row, result['metrics']))} |" for row in result["table"]]
    return "\n".join([*lines, "", *(f"- {one_line(note)}" for note in notes(result)), ""])


def cells(row: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    """Return a row of `compare_markdown` as text."""
    scores = [row["scores"][name] for name in metrics]
    told = [
        f"{s['mean']:.4f}" + ("" if s["deviation"] is None else f" ± {s['deviation']:.4f}") for s in scores
    ]
    if row["parameters"] is None:
        return [row["method"], *told, "-", "-", "-", "-"]
    return [
        row["method"],
        *told,
        f"{row['parameters']:,}",
        f"{row['share']:.4%}",
        f"{row['kilobytes']:,.1f}",
        f"{row['seconds']:,.1f}",
    ]


def notes(result: Mapping[str, Any]) -> list[str]:
    """Return what has to be known to read the table; a subset is named first."""
    rows, many = result["rows"], result["seeds"] > 1
    said = [f"**A subset**: {result['subset']}."] if result["subset"] else []
    over = f"mean ± sample deviation over {result['seeds']} seeds" if many else "one seed, so no deviation"
    return [
        *said,
        f"{result['data']}: {over}; reported on {result['reported']} ({rows['reported']:,} rows), which "
        "chose nothing; "
        f"the best step was selected on a tenth of train ({rows['selection']:,} rows, drawn by the seed).",
        f"Equal budgets: {rows['train']:,} rows x {result['epochs']} epochs in batches of {result['batch']}, "
        + (
            f"or until {result['patience']} evaluations bring nothing better."
            if result["patience"]
            else "without early stopping."
        ),
        f"Parameters do not count the head; the encoder ({result['backbone']}) has "
        f"{result['encoder_parameters']:,}. "
        "KB are the size of the adapter with its head, in float32. Seconds are of one run, from records to "
        "scores.",
        "majority answers without reading: the most common label, the mean score, or no entity. "
        f"{PROBE_NOTE}",
        *result["warnings"],
    ]
