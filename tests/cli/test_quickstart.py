"""The quickstart: its stages fit the bundled data, its table says what was measured, and the
whole of it runs.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from softcue import api
from softcue.adapter import Adapter
from softcue.answering.predict import Predictor
from softcue.cli import tour as quickstart
from softcue.cues import Cue
from softcue.errors import RequestError
from tests.answering.test_predict import same
from tests.tiny_base import base_folder

ROW = {
    "task": "intent",
    "method": "pasta",
    "metric": "accuracy",
    "score": 0.51239,
    "parameters": 1234,
    "share": 0.000123,
    "kilobytes": 12.6,
    "seconds": 1.0,
}


@pytest.mark.parametrize("stage", quickstart.STAGES, ids=lambda stage: stage.task)
def test_a_stage_asks_what_its_data_answer(stage: quickstart.Stage) -> None:
    data = quickstart.helpdesk(stage.task)
    assert stage.metric in data.metrics
    assert stage.method in Cue.registry
    assert data.pair == ("text_pair" in stage.request)
    texts = {record.text or " ".join(record.tokens) for records in data.splits.values() for record in records}
    shown = stage.request["text"] if "text" in stage.request else " ".join(stage.request["tokens"])
    assert shown not in texts, "the example was not trained on"


def test_every_bundled_task_has_a_stage_and_every_stage_a_method_and_kind_of_its_own() -> None:
    assert len({stage.method for stage in quickstart.STAGES}) == len(quickstart.STAGES)
    folder = Path(quickstart.__file__).parents[1] / "data" / "helpdesk"
    assert {stage.task for stage in quickstart.STAGES} == {place.name for place in folder.iterdir()}


def test_the_table_shows_score_size_and_share() -> None:
    lines = quickstart.table([ROW, {**ROW, "method": "probe", "parameters": 0, "share": 0.0}]).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2] == "| intent | pasta | accuracy 0.512 | 1,234 | 0.012% | 13 |"
    assert "head only" in lines[3]


def test_a_place_that_cannot_take_the_adapters_is_refused_before_the_first_is_trained(tmp_path: Path) -> None:
    (tmp_path / "entities").mkdir()
    (tmp_path / "entities" / "notes.txt").write_text("precious")
    said: list[str] = []
    with pytest.raises(RequestError, match="entities has files that are not"):
        quickstart.quickstart(tmp_path, str(base_folder()), said.append)
    assert not said


@pytest.mark.slow
def test_the_whole_of_it_trains_compares_saves_and_answers_in_a_new_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def little(data: Any, **more: Any) -> Any:
        few = {
            "train": data.splits["train"][:40],
            "dev": data.splits["dev"][:10],
            "test": data.splits["test"][:20],
        }
        data.splits.update(few)
        quick = {"epochs": 1} if more["settings"] else {}  # the probe takes no steps
        return api.train(data, **{**more, "settings": quick})

    monkeypatch.setattr(quickstart, "train", little)
    backbone = str(base_folder())
    said: list[str] = []
    result: Mapping[str, Any] = quickstart.quickstart(tmp_path, backbone, said.append)
    assert json.loads((tmp_path / "quickstart.json").read_text()) == result
    asked = [
        (stage.task, method) for stage in quickstart.STAGES for method in (stage.method, "probe", "full")
    ]
    assert [(row["task"], row["method"]) for row in result["rows"]] == asked
    assert all(-1 <= row["score"] <= 1 and row["share"] <= 1 for row in result["rows"])
    assert {row["share"] for row in result["rows"] if row["method"] == "full"} == {1.0}
    adapters = {stage.task: Adapter.load(tmp_path / stage.task) for stage in quickstart.STAGES}
    requests = [{"adapter": stage.task, **stage.request} for stage in quickstart.STAGES]
    for here, there in zip(Predictor(backbone, adapters)(requests), result["answers"], strict=True):
        same(here, there)
    assert any("one frozen encoder" in line for line in said)
    assert quickstart.table(result["rows"]) in said
