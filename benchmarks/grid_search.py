"""A grid search over PASTA's rate on help-desk messages: softcue's packed one against scikit-learn's
GridSearchCV over the same estimator, each in one process.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sklearn.model_selection import GridSearchCV, KFold

import softcue
from benchmarks.common import Options, Results, alternate, read_options
from softcue.base import open_base
from softcue.interop.estimators import SoftcueClassifier
from softcue.interop.grid import PackedGridSearch

DATA = Path(softcue.__file__).parent / "data" / "helpdesk" / "intent"
TARGET = 3.0  # times as fast as one by one
RATES, FOLDS, EPOCHS = (5e-3, 1e-2, 2e-2, 4e-2), 4, 2
CASES = [(rows, batch) for rows in (16, 64) for batch in (1, 8)]
QUICK_CASES = [(16, 1), (16, 8)]


def measure(rows: int, batch: int, options: Options) -> list[dict[str, Any]]:
    """Both sides with dropout off, so that they find the same scores; they are one row."""
    records = softcue.open_data(DATA, limit={"train": rows}).splits["train"]
    texts, labels = [record.text for record in records], [record.label for record in records]
    still = {"backbone_dropout": False, "head_dropout": 0.0, "dropout": 0.0}
    base = open_base("minilm", device=options.device)
    estimator = SoftcueClassifier(base, epochs=EPOCHS, batch=batch, **still)
    found: dict[str, Any] = {}

    def search(side: str, kind: type[GridSearchCV]) -> None:
        made = kind(estimator, {"rate": list(RATES)}, cv=KFold(FOLDS), refit=False)
        found[side] = made.fit(texts, labels).cv_results_["mean_test_score"].tolist()

    sides = {
        "packed": partial(search, "packed", PackedGridSearch),
        "one by one": partial(search, "one by one", GridSearchCV),
    }
    times = alternate(sides, options)
    return [
        {
            "rows": rows,
            "batch": batch,
            "fits": len(RATES) * FOLDS,
            "device": options.device,
            "packed, s": times["packed"].median,
            "one by one, s": times["one by one"].median,
            "times as fast": times["one by one"].over(times["packed"]),
            "target": TARGET,
            "same scores": found["packed"] == found["one by one"],
        }
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it; needs the encoder minilm."""
    options = read_options(__doc__ or "", arguments)
    options = replace(options, repeat=min(options.repeat, 1 if options.quick else 3))
    results = Results("grid_search", options)
    for rows, batch in QUICK_CASES if options.quick else CASES:
        results.add({"rows": rows, "batch": batch}, partial(measure, rows, batch, options))
    results.finish()


if __name__ == "__main__":
    main()
