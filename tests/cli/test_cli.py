"""The command line: each command answers as it says, saves whole or not at all, and stops cleanly."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from softcue import api
from softcue.adapter import Adapter
from softcue.cli import flags, lists, show
from softcue.cues import Cue
from softcue.encoder.load import FAMILIES
from softcue.errors import RequestError
from softcue.files import write as files
from softcue.kinds import KINDS
from tests.answering.test_predict import random_adapter
from tests.cli.shell import Shell, make_place, make_shell, train  # noqa: F401  (fixtures)
from tests.tiny_base import tiny_base

COMMANDS = ("train", "eval", "predict", "methods", "tasks", "backbones", "info", "quickstart")


@pytest.mark.parametrize("command", [*COMMANDS, "compare"])
def test_every_command_has_help_with_an_example(command: str, shell: Shell) -> None:
    result = shell(command, "--help")
    assert result.code == 0
    assert f"Example: softcue {command}" in " ".join(result.out.split())


@pytest.mark.parametrize("kind", [*KINDS, "pair"])
def test_train_info_eval_and_predict_agree_on_an_adapter(
    kind: str, shell: Shell, place: Path, tmp_path: Path
) -> None:
    out = tmp_path / "adapter"
    trained = json.loads(shell(*train("--json", "--seed", "3", data=f"data/{kind}", out=out)).out)
    told = json.loads(shell("info", out, "--json").out)
    assert told == trained
    assert (told["seed"], told["training"]["epochs"], told["measured"]) == (
        3,
        1,
        "selected on dev, reported on test",
    )
    scored = json.loads(shell("eval", out, f"data/{kind}", "--precision", "float32", "--json").out)
    for metric, value in scored["scores"].items():
        assert value == pytest.approx(told["scores"][metric], abs=1e-6)
    result = shell("predict", out, "--file", f"data/{kind}/test.jsonl")
    answers = [json.loads(line) for line in result.out.splitlines()]
    assert len(answers) == 9
    key = {"score": "value", "choice": "choice", "tag": "entities", "multilabel": "labels"}.get(kind, "label")
    assert all(key in answer for answer in answers)


def test_the_text_that_people_get_names_the_adapter_its_size_and_its_scores(
    shell: Shell, tmp_path: Path
) -> None:
    result = shell(*train(out=tmp_path / "a"))
    assert result.out.startswith(f"saved {tmp_path}/a: pasta on classify, 192 trained parameters")
    assert "selected on dev, reported on test: accuracy 0." in result.out
    assert "3 labels: bird, fruit, metal" in shell("info", tmp_path / "a").out
    assert "bird" in shell("eval", tmp_path / "a", "data/classify").out


def test_a_fine_tuned_checkpoint_is_shown_and_used_as_what_it_is(shell: Shell, tmp_path: Path) -> None:
    assert shell(*train("--method", "full", out=tmp_path / "full")).out.startswith(
        f"saved {tmp_path}/full: full on classify"
    )
    assert "a fine-tuned checkpoint, its own backbone" in shell("info", tmp_path / "full").out
    assert json.loads(shell("predict", tmp_path / "full", "the apple").out)["label"]


def test_predict_answers_a_text_and_a_pair_on_one_line_each(shell: Shell) -> None:
    assert set(json.loads(shell("predict", "adapters/classify", "the apple").out)) == {
        "label",
        "score",
        "scores",
    }
    assert set(json.loads(shell("predict", "adapters/pair", "the apple", "a pear").out)) == {
        "label",
        "score",
        "scores",
    }
    (line,) = shell("predict", "adapters/tag", "Alice was in Paris").out.splitlines()
    for entity in json.loads(line)["entities"]:
        assert entity["word"] == "Alice was in Paris"[entity["start"] : entity["end"]]


def test_predict_writes_a_file_whole_with_what_it_would_have_printed(shell: Shell, tmp_path: Path) -> None:
    printed = shell("predict", "adapters/classify", "--file", "in.jsonl").out
    out = tmp_path / "out.jsonl"
    out.write_text("old")
    assert shell("predict", "adapters/classify", "--file", "in.jsonl", "--out", out) == (0, "", "")
    assert out.read_text(encoding="utf-8") == printed
    assert len(printed.splitlines()) == 2
    shell.refused("predict", "adapters/classify", "--file", "missing.jsonl", "--out", out)
    assert out.read_text(encoding="utf-8") == printed, "a refusal leaves the old file"
    assert os.listdir(tmp_path) == ["out.jsonl"]


def test_predict_refuses_a_place_that_cannot_be_written_before_it_answers(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        api, "predict", lambda *_, **__: pytest.fail("work was done for answers that have no place")
    )
    for place in (tmp_path / "none" / "out.jsonl", tmp_path):
        shell.refused("predict", "adapters/classify", "the apple", "--out", place)


def test_methods_lists_the_registry_with_sizes(shell: Shell) -> None:
    rows = {row["method"]: row for row in json.loads(shell("methods", "--json").out)}
    assert set(rows) == {*Cue.registry, "full"}
    assert rows["pasta"]["parameters"] == 12 * 2 * 768
    assert rows["probe"]["parameters"] == 0
    assert rows["full"]["share"] == 1
    assert rows["prompt"]["settings"]["length"] == 16
    assert all(name in shell("methods").out for name in rows)


def test_backbones_and_tasks_are_listed(shell: Shell) -> None:
    told = json.loads(shell("backbones", "--json").out)
    assert set(told["families"]) == set(FAMILIES)
    assert all(name in shell("backbones").out for name in [*told["aliases"], *told["families"]])
    assert any(row["task"] == "glue/sst2" for row in json.loads(shell("tasks", "--json").out))


def test_warnings_on_data_go_to_standard_error_and_leave_json_alone(shell: Shell, tmp_path: Path) -> None:
    lines = Path("data/classify/train.jsonl").read_text() + Path("data/classify/test.jsonl").read_text()
    (tmp_path / "one.jsonl").write_text(lines)
    result = shell(*train("--json", data=str(tmp_path / "one.jsonl"), out=tmp_path / "a"))
    assert json.loads(result.out)["task"] == "one"
    assert "warning: one.jsonl is a single file; split by seed 0 into" in result.err


def test_columns_of_another_name_are_mapped_by_flags_and_refused_without_them(
    shell: Shell, place: Path, tmp_path: Path
) -> None:
    stars = [f"{place_name} was {word},{word}" for place_name in "abcdefghijkl" for word in ("good", "bad")]
    (tmp_path / "reviews.csv").write_text("\n".join(["review,stars", *stars]) + "\n")
    flags = ("--text", "review", "--label", "stars")
    assert "review" in shell.refused(
        "train", tmp_path / "reviews.csv", "--backbone", place / "backbone", "--out", tmp_path / "no"
    )
    words = (
        "train",
        tmp_path / "reviews.csv",
        "--backbone",
        place / "backbone",
        "--set",
        "epochs=1",
        "--out",
        tmp_path / "yes",
    )
    assert shell(*words, *flags).code == 0
    assert shell("eval", tmp_path / "yes", tmp_path / "reviews.csv", *flags).code == 0


def test_an_adapter_that_is_there_is_replaced_whole(shell: Shell, tmp_path: Path) -> None:
    first = Adapter.load(random_adapter(tiny_base(), "apt", task="first").save(tmp_path / "a"))
    assert shell(*train(out=tmp_path / "a")).code == 0
    second = Adapter.load(tmp_path / "a")
    assert (first.method, second.method) == ("apt", "pasta")
    assert sorted(os.listdir(tmp_path / "a")) == ["adapter_config.json", "adapter_model.safetensors"]
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("before", [True, False], ids=["replacing", "new"])
def test_a_save_that_fails_half_way_leaves_what_was_there(
    before: bool, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before:
        random_adapter(tiny_base(), "apt").save(tmp_path / "a")
    real, synced = files._sync, []

    def full_disk(path: Path) -> None:
        synced.append(path)
        if len(synced) == 2:
            raise OSError(28, "No space left on device")
        real(path)

    monkeypatch.setattr(files, "_sync", full_disk)
    assert "No space left on device; nothing half-written is left" in shell.refused(
        *train(out=tmp_path / "a")
    )
    assert len(synced) >= 2
    assert os.listdir(tmp_path) == ["a"] * before
    if before:
        assert Adapter.load(tmp_path / "a").method == "apt"


def test_a_place_that_cannot_be_saved_in_is_refused_before_anything_is_trained(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "train", lambda *rest, **more: pytest.fail("training began"))
    for out in ("file", "file/below", "foreign", "."):
        shell.refused(*train(out=out))


def test_a_place_is_fine_if_it_is_new_empty_or_an_adapter(place: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for out in (
        tmp_path,
        tmp_path / "a" / "b",
        tmp_path / "link",
        place / "adapters" / "tag",
        Path("relative/new"),
    ):
        if out != tmp_path:
            show.check_out(out)
    (tmp_path / "empty").mkdir()
    show.check_out(tmp_path / "empty")
    with pytest.raises(RequestError, match="has files that are not"):
        show.check_out(tmp_path)


def test_control_c_ends_with_130_and_no_traceback(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_adapter(tiny_base(), "apt").save(tmp_path / "a")

    def interrupt(*rest: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("softcue.training.loop.pack_items", interrupt)
    # a shell's background jobs are started without it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = shell(*train(out=tmp_path / "a"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (result.code, result.out, "Traceback" in result.err) == (130, "", False)
    assert Adapter.load(tmp_path / "a").method == "apt"
    assert os.listdir(tmp_path) == ["a"]


def test_an_error_of_our_own_is_not_hidden(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "show_methods", lambda as_json: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        shell("methods")


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ([], {}),
        (["length=20", "rate=1e-3", "shift=false"], {"length": 20, "rate": 1e-3, "shift": False}),
        (["plan=preset", "plan=measured"], {"plan": "measured"}),
        (
            ['plan="preset"', "sites=['query']", "layers=[1, 2]"],
            {"plan": "preset", "sites": ["query"], "layers": [1, 2]},
        ),
        (["name = a=b"], {"name": " a=b"}),
    ],
)
def test_settings_are_toml_or_words(given: list[str], settings: dict[str, object]) -> None:
    assert flags.parse_settings(given) == settings


def softcue(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own."""
    own = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, "-m", "softcue", *map(str, words)], capture_output=True, env=own, timeout=120
    )


def test_a_real_process_prints_utf8_in_any_locale_and_exits_2_on_a_mistake(place: Path) -> None:
    text = "Zoé Élan 😀"
    done = softcue("predict", place / "adapters" / "tag", text, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    found = [entity["word"] for entity in json.loads(done.stdout.decode("utf-8"))["entities"]]
    assert found
    assert all(word in text for word in found)
    done = softcue("info", "nowhere")
    assert (done.returncode, done.stdout) == (2, b"")
    assert (
        done.stderr == b"softcue: nowhere: no such folder; expected one with adapter_config.json and "
        b"adapter_model.safetensors\n"
    )


def test_a_reader_that_goes_away_gets_no_complaint() -> None:
    source, sink = os.pipe()
    os.close(source)
    done = subprocess.run(
        [sys.executable, "-m", "softcue", "--help"], stdout=sink, stderr=subprocess.PIPE, timeout=60
    )
    os.close(sink)
    assert done.stderr == b""
    assert done.returncode == 1
