"""`softcue train` with checkpoints and a log: refused, resumed and logged as its flags say."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.studies.test_compare import run_cli
from tests.tiny_base import base_folder, tiny_data
from tests.training.kill_cases import contents


@pytest.fixture
def flags(tmp_path: Path) -> list[object]:
    folder = tmp_path / "data"
    folder.mkdir()
    for split, records in tiny_data("classify", train=24, dev=6, test=6).splits.items():
        lines = [json.dumps({"text": record.text, "label": record.label}) for record in records]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["train", folder, "--backbone", base_folder(), "--set", "epochs=3", "--set", "batch=8"]


@pytest.mark.parametrize("method", ["pasta", "full"])
def test_a_resumed_command_saves_what_it_saved_before(
    method: str,
    flags: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = [
        *flags,
        "--method",
        method,
        "--checkpoint",
        tmp_path / "kept",
        "--every",
        2,
        "--log",
        tmp_path / "log",
    ]
    assert run_cli(monkeypatch, *kept, "--out", tmp_path / "one") == 0
    assert len(list((tmp_path / "kept").glob("checkpoint-*"))) == 2
    capsys.readouterr()
    assert run_cli(monkeypatch, *kept, "--out", tmp_path / "two") == 2
    assert "holds checkpoints of an earlier run; resume it (--resume)" in capsys.readouterr().err
    assert run_cli(monkeypatch, *kept, "--resume", "--out", tmp_path / "two") == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert run_cli(monkeypatch, *kept, "--resume", "--seed", 1, "--out", tmp_path / "two") == 2
    assert "jobs.0.seed was 0 and is 1" in capsys.readouterr().err
    events = [
        json.loads(line)["event"]
        for line in (tmp_path / "log" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert events[:5] == ["start", "step", "step", "step", "finish"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--resume"], "--resume came without --checkpoint"),
        (["--checkpoint", "kept", "--every", "0"], "every 0 steps was asked for"),
        (["--track", "paper"], "no tracker paper; expected one of tensorboard, wandb, mlflow, trackio"),
    ],
)
def test_flags_that_mean_nothing_are_refused_before_any_work(
    wrong: list[str],
    said: str,
    flags: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(monkeypatch, *flags, *wrong, "--out", "out") == 2
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_what_the_page_shows_can_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[object]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^```console\nsoftcue (.+?)\n```$", page, flags=re.MULTILINE)
    (code,) = re.findall(r"^```python\n(.+?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").rename(tmp_path / "trec")
    (tmp_path / "data").mkdir()
    (tmp_path / "trec").rename(tmp_path / "data" / "trec")
    small = ["--set", "epochs=2", "--set", "batch=4", "--every", "2"]
    assert run_cli(monkeypatch, *shlex.split(line), "--backbone", base_folder(), *small) == 0
    assert len(list(Path("runs/trec").glob("checkpoint-*"))) == 2
    user: dict[str, Any] = {"__name__": "user"}
    few = (
        code.replace('"minilm"', repr(str(base_folder())))
        .replace('"rate": rate', '"rate": rate, "epochs": 1')
        .replace("range(20)", "range(3)")
    )
    exec(few.replace("seats=32", "seats=4"), user)
    assert [adapter.seed for adapter in user["adapters"]] == [0, 1, 2, 0, 1, 2]
