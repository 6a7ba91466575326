"""No command deletes or changes a file that softcue did not write: it goes round it, or refuses
before any work with exit code 2.
"""

import json
import shutil
from pathlib import Path

import pytest

from softcue.adapter import Adapter
from softcue.cli import tour as quickstart
from softcue.errors import RequestError
from softcue.studies.results import check_results
from softcue.training import loop
from softcue.training.checkpoint import Checkpoints
from softcue.training.job import Job
from softcue.training.jobs import train_jobs
from softcue.training.trackers import open_trackers
from tests.adapter.test_adapter_folder import PEFT, others_folder
from tests.cli.shell import Shell, make_place, make_shell, train  # noqa: F401  (fixtures)
from tests.studies.sweep_cases import quick
from tests.tiny_base import base_folder, tiny_base, tiny_data
from tests.training.kill_cases import contents

QUICK = ("--backbone", "backbone", "--precision", "float32", "--set", "epochs=1")
COMPARE = ("compare", "data/classify", "--methods", "bitfit", "--seeds", "1", *QUICK)
SWEEP = ("sweep", "data/classify", "--method", "bitfit", "--grid", "rate=1e-3,1e-2", *QUICK)


@pytest.fixture(name="never")
def make_never(monkeypatch: pytest.MonkeyPatch) -> None:
    """No training step may be taken."""
    monkeypatch.setattr(loop, "Loop", lambda *rest, **more: pytest.fail("training began"))


def refused_untouched(shell: Shell, folder: Path, *words: str | Path) -> str:
    before = contents(folder)
    told = shell.refused(*words)
    assert contents(folder) == before
    return told


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize("method", ["pasta", "full"])
def test_train_names_the_files_of_others_before_it_begins(method: str, shell: Shell, tmp_path: Path) -> None:
    folder = others_folder(tmp_path / "theirs")
    told = refused_untouched(shell, folder, *train("--method", method, out=folder))
    assert f"--out {folder}: " in told and "thesis.txt" in told
    ours = Adapter.load("adapters/classify").save(tmp_path / "ours")
    (ours / "thesis.txt").write_text("precious")
    assert "('thesis.txt')" in refused_untouched(shell, ours, *train("--method", method, out=ours))


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize("flag", ["--checkpoint", "--log"])
@pytest.mark.parametrize("below", ["", "below"])
def test_logs_and_checkpoints_in_the_adapters_own_folder_are_refused_before_they_are_made(
    flag: str, below: str, shell: Shell, tmp_path: Path
) -> None:
    out = tmp_path / "new"
    assert "own folder, but" in shell.refused(*train(flag, str(out / below), out=out))
    assert not out.exists()
    (tmp_path / "link").symlink_to(out)
    assert "own folder, but" in shell.refused(*train(flag, str(tmp_path / "link" / below), out=out))


def test_an_adapter_in_the_folder_of_its_logs_and_checkpoints_is_saved(shell: Shell, tmp_path: Path) -> None:
    words = train(
        "--checkpoint", str(tmp_path), "--every", "1", "--log", str(tmp_path), out=tmp_path / "adapter"
    )
    (tmp_path / "thesis.txt").write_text("precious")
    assert shell(*words).code == 0
    Adapter.load(tmp_path / "adapter")
    assert (tmp_path / "thesis.txt").read_text() == "precious" and (tmp_path / "log.jsonl").is_file()


@pytest.mark.parametrize("command", [COMPARE, SWEEP])
def test_what_lies_beside_results_survives(command: tuple[str, ...], shell: Shell, tmp_path: Path) -> None:
    folder = others_folder(tmp_path / "theirs")
    before = contents(folder)
    for _ in range(2):  # the second time over our own results
        result = shell(*command, "--out", folder)
        assert result.code == 0, result.err
        assert before.items() <= contents(folder).items()


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("command", "name", "text"),
    [
        (COMPARE, "compare.md", "thesis"),
        (COMPARE, "compare.csv", "a,b"),
        (COMPARE, "compare.json", '{"table": [], "cells": []}'),
        (COMPARE, "cells/probe-0.json", "{}"),
        (COMPARE, "cells/adapter_config.json", json.dumps(PEFT)),
        (SWEEP, "sweep.json", '{"runs": []}'),
        (SWEEP, "sweep.csv", "a,b"),
        (SWEEP, "sweep.png", "a picture"),
        (SWEEP, "best/thesis.txt", "precious"),
        (SWEEP, "best/adapter_config.json", json.dumps(PEFT)),
        (SWEEP, "best", "a file"),
    ],
)
def test_results_are_not_written_over_files_of_others(
    command: tuple[str, ...], name: str, text: str, shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert name.split("/")[-1] in refused_untouched(shell, tmp_path, *command, "--out", tmp_path)


def test_a_sweep_of_two_data_sets_checks_the_folder_of_each_winner(tmp_path: Path, never: None) -> None:
    sets = [tiny_data(), tiny_data("tag")]
    theirs = others_folder(tmp_path / "best" / sets[1].name)
    with pytest.raises(RequestError, match=r"thesis\.txt"):
        quick(tmp_path, data=sets, methods=["bitfit"], grid={"rate": [1e-2]})
    assert (theirs / "thesis.txt").read_text() == "precious"


def test_a_sweep_whose_memory_was_tampered_with_refuses_before_it_trains_a_group_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(tmp_path, methods=["bitfit"], grid={"rate": [1e-2]})
    (file,) = (tmp_path / "groups").glob("*.json")
    file.unlink()
    (tmp_path / "groups" / f"{file.stem}-0" / "thesis.txt").write_text("precious")
    monkeypatch.setattr(loop, "Loop", lambda *rest, **more: pytest.fail("training began"))
    before = contents(tmp_path)
    with pytest.raises(RequestError, match=r"thesis\.txt"):
        quick(tmp_path, methods=["bitfit"], grid={"rate": [1e-2]})
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", ["json", "folder"])
def test_the_quickstart_refuses_a_table_that_it_did_not_write(
    kind: str, shell: Shell, tmp_path: Path
) -> None:
    place = tmp_path / "quickstart.json"
    place.write_text('{"rows": []}') if kind == "json" else place.mkdir()
    told = refused_untouched(shell, tmp_path, "quickstart", "--out", tmp_path, "--backbone", "backbone")
    assert "quickstart.json, which softcue did not write" in told


def test_the_quickstart_refuses_a_peft_adapter_where_one_of_its_own_would_go(tmp_path: Path) -> None:
    theirs = others_folder(tmp_path / "entities")
    with pytest.raises(RequestError, match=r"thesis\.txt"):
        quickstart.quickstart(tmp_path, str(base_folder()), lambda line: pytest.fail("work began"))
    assert len(contents(theirs)) == 3


def test_results_are_ours_where_the_json_has_all_keys_and_is_a_file(tmp_path: Path) -> None:
    names, keys = ("t.json", "t.csv"), ("a", "b")
    check_results(tmp_path / "none", names, keys)
    (tmp_path / "t.json").write_text('{"a": 1, "b": 2, "c": 3}')
    (tmp_path / "t.csv").write_text("1")
    check_results(tmp_path, names, keys)
    (tmp_path / "t.csv").unlink()
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(RequestError, match=r"t\.csv is a folder or a device"):
        check_results(tmp_path, names, keys)
    for text in ('{"a": 1}', "[]", "{", '{"a": 1, "a": 2, "b": 3}'):
        (tmp_path / "t.json").write_text(text)
        with pytest.raises(RequestError, match=r"holds t\.json, t\.csv, which softcue did not write"):
            check_results(tmp_path, names, keys)


def few(epochs: int = 2) -> Job:
    return Job(
        tiny_data("classify", train=8, dev=4, test=4), "bitfit", training={"epochs": epochs, "batch": 4}
    )


def test_checkpoints_go_round_files_of_other_names_whatever_they_are(tmp_path: Path) -> None:
    others_folder(tmp_path / "kept")
    for name in (
        "checkpoint-best.safetensors",
        "checkpoint-1.safetensors",
        "checkpoint-00000000001.safetensors",
        "thesis.safetensors",
    ):
        (tmp_path / "kept" / name).write_text("theirs")
    before = contents(tmp_path / "kept")
    train_jobs([few()], tiny_base(), checkpoints=Checkpoints(tmp_path / "kept", every=1))
    after = contents(tmp_path / "kept")
    assert before.items() <= after.items()
    assert {"checkpoint-0000000003.safetensors", "checkpoint-0000000004.safetensors"} <= set(after)
    train_jobs([few()], tiny_base(), checkpoints=Checkpoints(tmp_path / "kept", every=1, resume=True))
    assert before.items() <= contents(tmp_path / "kept").items()


@pytest.mark.parametrize("number", [1, 9], ids=["older", "newer"])
def test_a_file_of_another_program_under_a_checkpoints_name_is_refused(
    number: int, tmp_path: Path, never: None
) -> None:
    source = others_safetensors(tmp_path / f"checkpoint-{number:010}.safetensors")
    before = source.read_bytes()
    with pytest.raises(RequestError, match="holds checkpoints of an earlier run"):
        train_jobs([few()], tiny_base(), checkpoints=Checkpoints(tmp_path))
    with pytest.raises(
        RequestError, match=rf"checkpoint-{number:010}\.safetensors was not written by softcue"
    ):
        train_jobs([few()], tiny_base(), checkpoints=Checkpoints(tmp_path, resume=True))
    assert source.read_bytes() == before


def test_a_file_of_another_program_beside_our_checkpoints_is_not_removed_as_the_oldest(
    tmp_path: Path,
) -> None:
    train_jobs([few()], tiny_base(), checkpoints=Checkpoints(tmp_path, every=1))
    theirs = others_safetensors(tmp_path / "checkpoint-0000000001.safetensors")
    with pytest.raises(RequestError, match="was not written by softcue"):
        train_jobs([few()], tiny_base(), checkpoints=Checkpoints(tmp_path, every=1, resume=True))
    assert theirs.is_file()


def others_safetensors(file: Path) -> Path:
    """A safetensors file without our metadata."""
    shutil.copyfile(base_folder() / "model.safetensors", file)
    return file


def test_a_folder_of_finished_adapters_with_a_thesis_in_it_is_refused_before_training(
    tmp_path: Path, never: None
) -> None:
    theirs = others_folder(tmp_path / "finished" / "00001")
    with pytest.raises(RequestError, match=r"thesis\.txt"):
        train_jobs([few(), few(3)], tiny_base(), checkpoints=Checkpoints(tmp_path))
    assert len(contents(theirs)) == 3


@pytest.mark.parametrize(
    "text",
    [
        "my own log",
        '{"event": "stop"}\n',
        "precious\nlast line without an end",
        '{"loss": 1}\n{"event": "start"',
    ],
)
def test_a_log_of_another_program_is_neither_cut_nor_added_to(
    text: str, shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(RequestError, match=r"log\.jsonl is not a log that softcue wrote"):
        open_trackers(tmp_path, [])
    told = refused_untouched(shell, tmp_path, *train("--log", str(tmp_path), out=tmp_path / "new"))
    assert "not a log that softcue wrote" in told


@pytest.mark.parametrize("cut", [0, 1, 12, 40])
def test_a_log_of_ours_that_a_full_disk_cut_short_is_gone_on_with(cut: int, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    (tracker,) = open_trackers(tmp_path, [])
    tracker.start({"seed": 1})
    file.write_bytes(file.read_bytes()[:cut])
    (tracker,) = open_trackers(tmp_path, [])
    tracker.start({"seed": 2})
    assert json.loads(file.read_text())["config"] == {"seed": 2}


def test_half_a_character_in_a_name_is_logged_as_json_has_it(tmp_path: Path) -> None:
    (tracker,) = open_trackers(tmp_path, [])
    tracker.start({"data": "caf\udce9"})
    assert json.loads((tmp_path / "log.jsonl").read_text())["config"] == {"data": "caf\udce9"}
