"""Text that came from files, headers and requests does not steer the terminal."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from softcue.cli import show
from softcue.errors import one_line, visible
from softcue.studies.compare import Comparison
from softcue.studies.compare_table import compare_markdown
from tests.answering.test_predict import random_adapter
from tests.studies.test_compare import run_cli
from tests.tiny_base import base_folder, tiny_base

EVIL = "owl\x1b[31m\x9b2J\u202egnp\x07\u2028[red]bold[/red]:smile:"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


def test_what_steers_is_escaped_and_json_stays_what_it_was() -> None:
    assert visible("a\tb\nc") == "a\tb\nc"
    assert visible("\x1b[31m\u202e") == "\\u001b[31m\\u202e"
    assert one_line("a\nb\r") == "a\\nb\\u000d"
    value = {"label": EVIL, "text": "ä\n\x7f"}
    assert json.loads(visible(json.dumps(value, ensure_ascii=False))) == value
    assert not STEERING.search(visible("".join(map(chr, range(0x3000)))))


def saved(folder: Path, **changes: Any) -> Path:
    adapter = replace(random_adapter(tiny_base(), "pasta", backbone=str(base_folder())), **changes)
    return adapter.save(folder)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_an_adapters_header_is_shown_without_steering(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path / "a", subset=EVIL, labels=(EVIL, "plain\nlabel", "third"))
    assert run_cli(monkeypatch, "info", folder, *flags) == 0
    out = capsys.readouterr().out
    assert not STEERING.search(out)
    assert (
        "\\u001b[31m\\u009b2J\\u202egnp" in out and "[red]bold[/red]:smile:" in out and "plain\\nlabel" in out
    )


def test_answers_and_reports_are_shown_without_steering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path / "a", labels=(EVIL, "plain", "third"), subset=EVIL)
    rows = [
        {"text": "an owl", "label": EVIL},
        {"text": "a fig", "label": "plain"},
        {"text": "a pear", "label": "un\x1b]0;known\x07"},
    ]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run_cli(monkeypatch, "predict", folder, "an owl") == 0
    answer = json.loads(capsys.readouterr().out)
    assert EVIL in answer["scores"]
    assert run_cli(monkeypatch, "eval", folder, tmp_path) == 0
    said = capsys.readouterr()
    assert not STEERING.search(said.out + said.err)
    assert "un\\u001b]0;known\\u0007" in said.err


def test_a_mistake_is_told_without_steering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text(f"te\x1b[31mxt,{EVIL}\na,b\n")
    assert run_cli(monkeypatch, "train", tmp_path / "rows.csv", "--out", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert err.startswith("softcue: ") and not STEERING.search(err)


def test_tables_take_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    scores = {"accuracy": {"mean": 0.5, "deviation": None}}
    row = {"method": EVIL, "scores": scores, "parameters": 1, "share": 0.1, "kilobytes": 1.0, "seconds": 1.0}
    comparison = Comparison(
        data=EVIL + "\n- a line of its own",
        kind="classify",
        metrics=("accuracy",),
        subset=EVIL,
        warnings=(EVIL,),
        reported="test",
        rows={"train": 1, "selection": 1, "reported": 1},
        backbone=EVIL,
        encoder_parameters=1,
        epochs=1,
        batch=1,
        patience=0,
        seeds=1,
        table=(row,),
        cells=(),
    )
    show.show_compared(comparison, as_json=False)
    out = capsys.readouterr().out
    assert not STEERING.search(out) and "[red]" in out
    assert not STEERING.search(compare_markdown({**comparison.to_json(), "table": []}))
    assert "\n- a line of its own" not in compare_markdown({**comparison.to_json(), "table": []})
    show.progress(EVIL)
    assert not STEERING.search(capsys.readouterr().err)


def test_what_was_typed_comes_back_without_steering(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for typed in (
        ["info", "a", EVIL],
        ["--" + EVIL],
        [EVIL],
        ["predict", "a", "--precision", "x", EVIL, "--" + EVIL],
    ):
        assert run_cli(monkeypatch, *typed) == 2
        err = capsys.readouterr().err
        assert "31m" in err and not STEERING.search(err)
