"""Several labels a text through checkpoints, sweeps, the hub's form, MLflow, pipelines and scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softcue import api
from softcue.adapter import Adapter
from softcue.answering.predict import Predictor
from softcue.errors import DataError
from softcue.interop.estimators import SoftcueClassifier
from softcue.interop.grid import PackedGridSearch
from softcue.interop.pipeline import pipeline
from softcue.studies.sweep import sweep
from softcue.training.checkpoint import open_checkpoints
from tests.answering.test_predict import random_adapter
from tests.tiny_base import base_folder, tiny_base, tiny_data


class Killed(Exception):
    """What ends a run in the middle of it."""


def test_a_run_that_was_killed_goes_on_to_the_same_numbers_and_threshold(tmp_path: Path) -> None:
    data, settings = (
        tiny_data("multilabel", train=24, dev=12, test=9),
        {"epochs": 3, "rate": 1e-2, "batch": 8},
    )
    how: dict[str, Any] = {"backbone": tiny_base(), "method": "pasta", "settings": settings}
    whole = api.train(data, **how)

    def kill(prepared: Any, run: Any) -> None:
        if run.step == 5:
            raise Killed

    with pytest.raises(Killed):
        api.train(data, **how, report=kill, checkpoints=open_checkpoints(tmp_path, 2, False, print))
    again = api.train(data, **how, checkpoints=open_checkpoints(tmp_path, 2, True, print))
    assert again.threshold == whole.threshold != 0.5
    assert again.scores == whole.scores
    assert all(torch.equal(again.head[name], whole.head[name]) for name in whole.head)


def test_the_winner_of_a_sweep_keeps_its_threshold_and_is_scored_with_it(tmp_path: Path) -> None:
    data = tiny_data("multilabel", train=40, dev=12, test=20)
    settings = {"epochs": 1, "batch": 8}
    sweep([data], ["pasta"], tmp_path, grid={"rate": [1e-2, 5e-2]}, backbone=tiny_base(), settings=settings)
    best = Adapter.load(tmp_path / "best")
    assert best.metric == "micro_f1" and best.threshold != 0.5
    told = api.evaluate(best, data, backbone=tiny_base()).scores
    assert {name: best.scores[name] for name in told} == pytest.approx(told)


def test_it_goes_to_the_hubs_form_mlflow_and_pipelines_and_back(tmp_path: Path) -> None:
    flavour = pytest.importorskip("softcue.interop.mlflow")
    mlflow = pytest.importorskip("mlflow")
    adapter = random_adapter(tiny_base(), "pasta", "multilabel", threshold=0.3)
    assert Adapter.from_pretrained(adapter.save_pretrained(tmp_path / "own")).threshold == 0.3
    flavour.save_model(adapter, tmp_path / "model")
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"), model_config={"backbone": str(base_folder())})
    (row,) = model.predict([{"text": "the owl and iron"}]).to_dict("records")
    (own,) = Predictor(tiny_base(), {"a": adapter})([{"text": "the owl and iron"}], adapter="a")
    assert row["labels"] == own["labels"] and row["scores"] == pytest.approx(own["scores"], abs=1e-4)
    assert set(model.metadata.signature.outputs.input_names()) == set(own)
    made = pipeline(adapter, backbone=tiny_base())("the owl and iron", top_k=None)
    assert {one["label"]: one["score"] for one in made} == pytest.approx(own["scores"])


@pytest.mark.parametrize(
    "y",
    [
        [["a", "b"], ["a"], [], ["b"]],
        [{"a"}, {"b"}, set(), {"a", "b"}],
        np.array([[1, 0], [0, 1], [1, 1], [0, 0]]),
    ],
)
def test_scikit_learns_estimators_say_that_they_give_one_label(y: Any) -> None:
    texts = ["the owl", "iron gold", "apple pear", "a fig"]
    estimator = SoftcueClassifier(tiny_base(), method="probe")
    for one in (estimator, PackedGridSearch(estimator, {"penalty": [1.0, 10.0]}, cv=2)):
        with pytest.raises(DataError, match="y gives a row several labels"):
            one.fit(texts, y)
