"""Reports: where the errors of one split are, label by label, and how sure the model was of them."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from softcue.errors import one_line
from softcue.kinds import KINDS
from softcue.scoring.metrics import metrics_of, precision_recall_f1, scores

BINS = 15  # of the calibration error (Guo et al., 2017)
WORST = 20  # wrongly answered rows of a report
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


def doubts(right: Sequence[bool], confidence: Sequence[float], below: float) -> dict[str, Any]:
    """Return how many rows are unsure, with a confidence below `below`, and the accuracy of both parts.

    A part without rows has an accuracy of None.
    """
    sure = [one for one, value in zip(right, confidence, strict=True) if value >= below]
    unsure = len(right) - len(sure)
    return {
        "below": below,
        "rows": unsure,
        "share": unsure / max(1, len(right)),
        "accuracy_of_sure": sum(sure) / len(sure) if sure else None,
        "accuracy_of_unsure": (sum(right) - sum(sure)) / unsure if unsure else None,
    }


def worst_rows(
    gold: Sequence[Any], predicted: Sequence[Any], chances: Sequence[Sequence[float]] | None = None
) -> list[tuple[int, float]]:
    """Return the numbers of at most WORST rows that are answered wrongly, the worst first, and how wrong.

    That is how sure the wrong answer is, where there are chances; or else the error of a score, or the number
    of wrong tags or labels.
    """
    pairs = list(zip(gold, predicted, strict=True))
    if chances is not None:
        wrong = [float(max(own)) * (a != b) for (a, b), own in zip(pairs, chances, strict=True)]
    else:
        wrong = [_difference(a, b) for a, b in pairs]
    found = [(row, size) for row, size in enumerate(wrong) if size > 0]
    return sorted(found, key=lambda one: -one[1])[:WORST]


def _difference(gold: Any, predicted: Any) -> float:
    if isinstance(gold, list):
        return float(sum(a != b for a, b in zip(gold, predicted, strict=True)))
    return float(len(gold ^ predicted) if isinstance(gold, frozenset) else abs(gold - predicted))


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
    if "unsure" in result:
        own = result["unsure"]
        for name in ("accuracy_of_sure", "accuracy_of_unsure"):
            if own[name] is not None:
                values[name] = own[name]
        lines.append(f"unsure (below {own['below']:g}): {own['rows']:,} rows, {own['share']:.1%}")
    shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
    lines.append(f"{result['rows']:,} rows: {shown}")
    return "\n".join(lines)
