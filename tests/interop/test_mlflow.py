"""MLflow: an adapter is a model of its own flavour, and pyfunc answers tables as a predictor does."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from softcue import api
from softcue.answering.predict import Predictor
from softcue.errors import AdapterError, RequestError
from softcue.interop import mlflow as flavour
from tests.adapter.adapter_cases import same
from tests.answering.test_predict import REQUESTS, flat, random_adapter
from tests.tiny_base import base_folder, tiny_base, tiny_data

mlflow: Any = pytest.importorskip("mlflow")
HOW = {"precision": "float32", "backbone": str(base_folder())}


@pytest.fixture(name="store", autouse=True)
def make_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tracking store of files, and no telemetry."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_UV_AUTO_DETECT": "false",
    }.items():
        monkeypatch.setenv(name, value)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    yield tmp_path
    mlflow.set_tracking_uri(before)


def opened(place: Path) -> Any:
    return mlflow.pyfunc.load_model(str(place), model_config=HOW, suppress_warnings=True)


@pytest.mark.parametrize("kind", ["classify", "score", "choice", "tag", "multilabel"])
def test_a_table_is_answered_as_a_predictor_answers_its_rows(kind: str, store: Path) -> None:
    pair = kind in ("score", "multilabel")
    adapter = random_adapter(tiny_base(), "pasta", kind, pair)
    flavour.save_model(adapter, store / "model")
    request = REQUESTS[kind, pair]
    table = opened(store / "model").predict(pd.DataFrame([request, request], index=[7, 3]))
    [answer] = Predictor(tiny_base(), {"one": adapter})([{"adapter": "one", **request}])
    assert list(table.index) == [7, 3]
    numbers, words = flat(answer)
    for row in table.to_dict("records"):
        told, others = flat(row)
        assert told == pytest.approx(numbers, abs=1e-5) and others == words


def test_a_model_holds_the_adapters_files_and_nothing_pickled(store: Path) -> None:
    flavour.save_model(random_adapter(tiny_base(), "pasta"), store / "model")
    files = {
        str(path.relative_to(store / "model")) for path in (store / "model").rglob("*") if path.is_file()
    }
    assert {"MLmodel", "data/adapter/adapter_config.json", "data/adapter/adapter_model.safetensors"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".bin"))]
    assert "softcue==" in (store / "model" / "requirements.txt").read_text()
    flavours = mlflow.models.Model.load(str(store / "model")).flavors
    assert flavours["python_function"]["loader_module"] == "softcue.interop.mlflow"
    assert flavours["softcue"]["method"] == "pasta"


def test_a_logged_model_comes_back_to_the_bit_and_as_pyfunc(store: Path) -> None:
    adapter = random_adapter(tiny_base(), "spt")
    with mlflow.start_run():
        info = flavour.log_model(adapter, name="intent")
    assert same(flavour.load_model(info.model_uri), adapter)
    model = mlflow.pyfunc.load_model(info.model_uri, model_config=HOW, suppress_warnings=True)
    assert model.predict(pd.DataFrame({"text": ["the apple"]})).loc[0, "label"] in adapter.labels


def test_a_folder_is_saved_as_its_adapter_is(store: Path) -> None:
    adapter = random_adapter(tiny_base(), "pasta")
    folder = adapter.save(store / "adapter")
    flavour.save_model(folder, store / "model")
    assert same(flavour.load_model(str(store / "model")), adapter)


@pytest.mark.slow
def test_a_fine_tuned_checkpoint_brings_its_encoder_along(store: Path) -> None:
    data = tiny_data(train=8, dev=4, test=4)
    trained = api.train(data, backbone=tiny_base(), method="full", settings={"epochs": 1})
    flavour.save_model(trained, store / "model")
    with pytest.raises(RequestError, match=r"open it with mlflow\.pyfunc"):
        flavour.load_model(str(store / "model"))
    how = {"precision": "float32"}
    model = mlflow.pyfunc.load_model(str(store / "model"), model_config=how, suppress_warnings=True)
    assert len(model.predict(pd.DataFrame({"text": ["the apple", "gold"]}))) == 2


def test_cells_may_be_arrays_or_empty(store: Path) -> None:
    adapter = random_adapter(tiny_base(), "pasta", "tag")
    model = flavour.TableModel(Predictor(tiny_base(), {"one": adapter}), "one")
    words = np.array(["alice", "in", "paris"], dtype=object)
    table = pd.DataFrame({"text": [None, "bob was in rome"], "tokens": [words, None]})
    assert len(model.predict(table)) == 2
    assert len(model.predict(["alice", {"text": "bob"}])) == 2
    others = {"when": [pd.NaT], "size": [np.float64("nan")], "row": [pd.Series([1, 2])]}
    assert len(model.predict(pd.DataFrame({"text": ["alice"], **others}))) == 1


@pytest.mark.parametrize("kind", ["classify", "score", "choice", "tag", "multilabel"])
def test_a_table_without_rows_has_the_columns_of_one_with_rows(kind: str) -> None:
    adapter = random_adapter(tiny_base(), "pasta", kind, unsure_below=0.5 if kind == "classify" else 0.0)
    model = flavour.TableModel(Predictor(tiny_base(), {"one": adapter}), "one")
    row = REQUESTS.get((kind, False), {"text": "the apple"})
    full = model.predict([row])
    assert list(full.columns) == list(model.predict(pd.DataFrame([row])[:0]).columns)
    assert len(model.predict([])) == 0


def test_requirements_are_those_that_are_given(store: Path) -> None:
    flavour.save_model(random_adapter(tiny_base(), "pasta"), store / "model", pip_requirements=[])
    assert "softcue" not in (store / "model" / "requirements.txt").read_text()


def test_what_is_wrong_is_told_with_its_row(store: Path) -> None:
    adapter = random_adapter(tiny_base(), "pasta")
    model = flavour.TableModel(Predictor(tiny_base(), {"one": adapter}), "one")
    with pytest.raises(RequestError, match=r"^row 4 .*a text that is not empty"):
        model.predict(pd.DataFrame({"text": ["fine", " "]}, index=[2, 4]))
    for given in (7, pd.Series(["the apple", "gold"])):
        with pytest.raises(RequestError, match=r"^.* came as a table; expected a DataFrame"):
            model.predict(given)
    with pytest.raises(AdapterError, match="No such file"):
        flavour.save_model(store / "absent", store / "model")
    assert not (store / "model").exists()


def test_a_model_of_another_flavour_is_refused(store: Path) -> None:
    (store / "other").mkdir()
    model = mlflow.models.Model()
    model.add_flavor("other", data="x")
    model.save(str(store / "other" / "MLmodel"))
    with pytest.raises(RequestError, match="has the flavours other; expected softcue"):
        flavour.load_model(str(store / "other"))


def test_without_mlflow_one_line_says_what_to_install(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.pyfunc", None)
    with pytest.raises(RequestError, match=r"pip install 'softcue\[mlflow\]'"):
        flavour.save_model(random_adapter(tiny_base(), "pasta"), store / "model")


def test_a_table_may_have_the_columns_that_the_adapter_was_trained_on(store: Path) -> None:
    adapter = random_adapter(tiny_base(), "pasta", columns={"text": "subject,year"})
    flavour.save_model(adapter, store / "model")
    table = pd.DataFrame({"subject": ["the owl", "the fig"], "year": [7, None]})
    given = pd.DataFrame({"text": ["the owl. 7.0", "the fig"]})
    one, other = (opened(store / "model").predict(rows) for rows in (table, given))
    assert one["score"].tolist() == pytest.approx(other["score"].tolist(), abs=1e-5)
