"""The probe beside scikit-learn: `softcue train --method probe`, and scikit-learn's linear model on features
of the same encoder, from texts to scores.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from benchmarks.common import Options, Results, Row, alternate, read_options
from softcue.answering.evaluation import judge
from softcue.api import train
from softcue.base import Base, open_base
from softcue.model import Model
from softcue.readers import Data
from softcue.readers.splits import Selection, select
from softcue.tasks import data_root, open_data
from softcue.training.job import Job, prepare
from softcue.training.linear import Features, features

SETS = ("sst2", "atis_intent", "clinc150", "glue/mrpc", "glue/stsb")
ROWS = 2_000


def rival(data: Data, base: Base) -> float:
    """Score scikit-learn's model on the reported rows; it learns all of train, and has no selection."""
    whole = select(data, 0)
    rows = Selection(whole.train, whole.train[:1], whole.report, whole.measured)
    prepared = prepare(Job(data, "probe", selection=rows), base)
    model = Model.single(base.backbone.encoder, prepared.cue, prepared.head).eval()
    head = model.head(0)

    def arrays(found: Features) -> tuple[np.ndarray, np.ndarray]:
        return found.values.cpu().numpy(), found.targets(head).cpu().numpy()

    x, y = arrays(features(model, prepared.items))
    reported, _ = arrays(features(model, prepared.read(whole.report, prepared.reading)))
    if data.kind == "score":
        answers = torch.tensor(Ridge().fit(x, y).predict(reported))
    else:
        fitted = LogisticRegression(max_iter=1_000).fit(x, y)
        answers = torch.zeros(len(reported), len(prepared.reading.labels))
        answers[:, fitted.classes_] = torch.tensor(fitted.predict_proba(reported), dtype=torch.float32)
    return judge(list(answers), whole.report, prepared.reading, data)[data.metric]


def measure(name: str, base: Base, rows: int, options: Options) -> list[Row]:
    """Time both sides on one data set, in turn."""
    data = open_data(name, data_root=data_root(None), limit={"train": rows})
    scores: dict[str, float] = {}

    def ours() -> None:
        scores["softcue"] = train(data, backbone=base, method="probe").scores[data.metric]

    def theirs() -> None:
        scores["rival"] = rival(data, base)

    times = alternate({"softcue": ours, "rival": theirs}, options)
    return [
        {
            "data": name,
            "metric": data.metric,
            "softcue": scores["softcue"],
            "scikit-learn": scores["rival"],
            "softcue seconds": times["softcue"].median,
            "scikit-learn seconds": times["rival"].median,
            "x scikit-learn": times["softcue"].over(times["rival"]),
            "spread": max(times["softcue"].spread, times["rival"].spread),
        }
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, write."""
    options = read_options(__doc__ or "", arguments)
    base = open_base("minilm", "auto", options.device)
    results = Results("linear", options)
    rows = 200 if options.quick else ROWS
    for name in SETS[:1] if options.quick else SETS:
        results.add({"data": name}, partial(measure, name, base, rows, options))
    results.finish()


if __name__ == "__main__":
    main()
