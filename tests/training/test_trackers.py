"""Trackers: JSON lines as they are read back, and each service through a fake of its module."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from softcue import api
from softcue.errors import RequestError
from softcue.training import trackers
from softcue.training.trackers import SERVICES, open_trackers
from tests.tiny_base import tiny_base, tiny_data

SETTINGS = {"epochs": 3, "batch": 8}


class Calls:
    """Notes every call that is made on it or on what it gives."""

    def __init__(self, name: str, made: list[tuple[str, tuple[Any, ...], dict[str, Any]]]) -> None:
        self.name, self.made = name, made

    def __getattr__(self, name: str) -> "Calls":
        return Calls(f"{self.name}.{name}", self.made)

    def __call__(self, *given: Any, **named: Any) -> "Calls":
        self.made.append((self.name, given, named))
        return Calls(f"{self.name}()", self.made)


class Fake(types.ModuleType):
    """A service's module that notes what is asked of it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.made: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Calls:
        if name.startswith("__"):
            raise AttributeError(name)
        return Calls(name, self.made)


def train(folder: Path | None, names: list[str]) -> Any:
    data = tiny_data("classify", train=24, dev=6, test=6)
    return api.train(
        data,
        backbone=tiny_base(),
        method="pasta",
        settings=SETTINGS,
        seed=3,
        trackers=open_trackers(folder, names),
    )


def test_the_json_lines_say_what_was_trained_how_it_went_and_what_it_gave(tmp_path: Path) -> None:
    adapter = train(tmp_path / "logs", [])
    lines = [
        json.loads(line)
        for line in (tmp_path / "logs" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [line["event"] for line in lines] == ["start", "step", "step", "step", "finish"]
    config = lines[0]["config"]
    assert (config["data"], config["job.method"], config["job.seed"], config["job.training.epochs"]) == (
        "tiny-classify",
        "pasta",
        3,
        3,
    )
    assert config["job.backbone"] == tiny_base().fingerprint
    assert [line["step"] for line in lines[1:-1]] == [3, 6, 9]
    assert all(line["loss"] > 0 and 0 <= line["score"] <= 1 and line["rate"] > 0 for line in lines[1:-1])
    # the last of nine steps, one of them warm-up
    assert lines[1]["rate"] > lines[3]["rate"] == pytest.approx(2e-2 / 8)
    assert lines[-1]["scores"] == dict(adapter.scores)
    assert max(line["score"] for line in lines[1:-1]) == adapter.scores["selection"]
    with (tmp_path / "logs" / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"event": "st')  # a full disk, say
    train(tmp_path / "logs", [])
    assert len((tmp_path / "logs" / "log.jsonl").read_text(encoding="utf-8").splitlines()) == 10


@pytest.mark.parametrize(
    ("name", "module", "start", "log", "finish"),
    [
        (
            "tensorboard",
            "torch.utils.tensorboard",
            "SummaryWriter",
            "SummaryWriter().add_scalar",
            "SummaryWriter().close",
        ),
        ("wandb", "wandb", "init", "init().log", "init().finish"),
        ("mlflow", "mlflow", "start_run", "log_metrics", "end_run"),
        ("trackio", "trackio", "init", "log", "finish"),
    ],
)
def test_a_service_is_started_once_told_of_every_evaluation_and_ended(
    name: str, module: str, start: str, log: str, finish: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = Fake(module)
    monkeypatch.setitem(sys.modules, module, fake)
    train(tmp_path, [name])
    called = [call for call, _, _ in fake.made]
    assert called[0] == start and called[-1] == finish and called.count(start) == called.count(finish) == 1
    logged = [(given, named) for call, given, named in fake.made if call == log]
    steps = {named.get("step", given[2] if len(given) > 2 else None) for given, named in logged}
    assert {3, 6, 9} <= steps
    told = repr(logged)
    assert all(word in told for word in ("loss", "score", "rate"))
    assert "accuracy" in repr(fake.made)
    assert "job.training.rate" in repr(fake.made)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_that_is_not_installed_is_refused_with_the_extra_that_brings_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        RequestError, match=rf"tracker {name} is not installed .* pip install 'softcue\[track\]'"
    ):
        open_trackers(tmp_path, [name])


def test_unknown_services_and_places_that_cannot_be_written_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        RequestError, match="no tracker weights; expected one of tensorboard, wandb, mlflow, trackio"
    ):
        open_trackers(None, ["weights"])
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", Fake("tensorboard"))
    with pytest.raises(RequestError, match="give their folder with --log FOLDER"):
        open_trackers(None, ["tensorboard"])
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"cannot write to --log .*file"):
        open_trackers(tmp_path / "file", [])
    assert open_trackers(None, []) == []


def test_only_numbers_are_sent_as_scores() -> None:
    assert trackers.numbers({"accuracy": 0.5, "selection_step": 3, "note": "x", "many": [1]}) == {
        "accuracy": 0.5,
        "selection_step": 3.0,
    }
