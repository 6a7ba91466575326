"""Reports: where the errors of one split are, label by label, and how sure the model was of them."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from softcue.errors import one_line
from softcue.kinds import KINDS
from softcue.scoring.metrics import metrics_of, precision_recall_f1, scores

BINS = 15  # of the calibration error (Guo et al., 2017)
MOST_CONFUSED = 1_000  # labels of a confusion table: it has a number for each pair of them


def report(
    kind: str,
    gold: Sequence[Any],
    predicted: Sequence[Any],
    probabilities: Sequence[Sequence[float]] | None = None,
    labels: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return scores, confusion table, scores of each label and calibration, ready for JSON.

    probabilities: of each row, in the order of `labels`; for choice, in the order of its choices.
    labels: the order of the tables; gold or predicted labels beyond them come last.

    For tags the confusion table counts words by entity type, and the scores count entities. Beyond
    MOST_CONFUSED labels there is no confusion table.
    """
    result: dict[str, Any] = {
        "kind": kind,
        "rows": len(gold),
        "scores": scores(kind, metrics_of(kind), gold, predicted),
    }
    tally = KINDS[kind].tally(gold, predicted, labels or ())
    if tally is None:
        return {**result, **KINDS[kind].errors(gold, predicted)}
    per_label = {}
    for label, (right, given_count, support) in tally.counts.items():
        precision, recall, f1 = precision_recall_f1(right, given_count, support)
        per_label[label] = {"precision": precision, "recall": recall, "f1": f1, "support": support}
    result |= {"labels": tally.order, "per_label": per_label}
    if tally.pairs is not None and len(tally.order) <= MOST_CONFUSED:
        table = Counter(tally.pairs)
        result["confusion"] = [[table[a, b] for b in tally.order] for a in tally.order]
    if probabilities is not None and KINDS[kind].calibrated:
        right_rows = [a == b for a, b in zip(gold, predicted, strict=True)]
        result["calibration"] = calibration(right_rows, [float(max(row)) for row in probabilities])
    return result


def calibration(right: Sequence[bool], confidence: Sequence[float]) -> dict[str, Any]:
    """Return the expected calibration error over equal bins of confidence, and the bins."""
    bins: list[list[int]] = [[] for _ in range(BINS)]
    for row, value in enumerate(confidence):
        number = math.ceil(value * BINS) - 1
        bins[min(max(number, 0), BINS - 1)].append(row)
    table = [
        {
            "confidence": sum(confidence[row] for row in rows) / len(rows),
            "accuracy": sum(right[row] for row in rows) / len(rows),
            "rows": len(rows),
        }
        for rows in bins
        if rows
    ]
    gap = sum(abs(entry["confidence"] - entry["accuracy"]) * entry["rows"] for entry in table)
    return {"ece": gap / max(len(right), 1), "bins": table}


def report_table(result: Mapping[str, Any]) -> str:
    """Return a report as text: one line for each label, then the scores."""
    lines = []
    if "per_label" in result:
        width = max(len(one_line(name)) for name in ("label", *result["per_label"]))
        lines.append(f"{'label':<{width}}  precision  recall      f1  support")
        for name, row in result["per_label"].items():
            label = one_line(name)
            lines.append(
                f"{label:<{width}}  {row['precision']:9.4f}  {row['recall']:6.4f}  {row['f1']:6.4f}  "
                f"{row['support']:7,}"
            )
    values = dict(result["scores"])
    for name in ("mean_absolute_error", "root_mean_square_error"):
        if name in result:
            values[name] = result[name]
    if "calibration" in result:
        values["calibration_error"] = result["calibration"]["ece"]
    shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
    lines.append(f"{result['rows']:,} rows: {shown}")
    return "\n".join(lines)
