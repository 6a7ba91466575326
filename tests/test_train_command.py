"""`softcue train` with checkpoints and a log: refused, resumed and logged as its flags say."""

import json
from pathlib import Path

import pytest

from tests.kill_cases import contents
from tests.test_compare import run_cli
from tests.tiny_base import base_folder, tiny_data


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
    method: str, flags: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [*flags, "--method", method, "--checkpoint", tmp_path / "kept", "--every", 2, "--log", tmp_path / "log"]
    assert run_cli(monkeypatch, *kept, "--out", tmp_path / "one") == 0
    assert len(list((tmp_path / "kept").glob("checkpoint-*"))) == 2
    capsys.readouterr()
    assert run_cli(monkeypatch, *kept, "--out", tmp_path / "two") == 2
    assert "holds checkpoints of an earlier run; resume it (--resume)" in capsys.readouterr().err
    assert run_cli(monkeypatch, *kept, "--resume", "--out", tmp_path / "two") == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert run_cli(monkeypatch, *kept, "--resume", "--seed", 1, "--out", tmp_path / "two") == 2
    assert "jobs.0.seed was 0 and is 1" in capsys.readouterr().err
    events = [json.loads(line)["event"] for line in (tmp_path / "log" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
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
