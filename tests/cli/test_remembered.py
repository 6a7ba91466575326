"""What an adapter remembers of its training: how its files are written, what it takes to train again."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from softcue import api
from softcue.adapter import Adapter, store
from softcue.adapter.card import training_command
from softcue.errors import AdapterError, RequestError
from softcue.readers.encoding import Encoding
from tests.adapter.adapter_cases import make, same
from tests.cli.shell import Shell, make_place, make_shell  # noqa: F401
from tests.test_api import quick
from tests.tiny_base import tiny_base, tiny_data

LETTER = "Ã"  # what windows-1252 makes of the first byte of UTF-8's "é"


@pytest.fixture(name="mails")
def make_mails(tmp_path: Path) -> Path:
    """A folder of CSV files in windows-1252 whose columns have names of their own."""
    folder = tmp_path / "mails"
    folder.mkdir()
    for split, records in tiny_data(train=30, dev=9, test=9).splits.items():
        rows = [f"caf\u00e9 {record.text};{record.label}" for record in records]
        (folder / f"{split}.csv").write_text("\n".join(["Sujet;Th\u00e8me", *rows, ""]), "cp1252")
    return folder


def train_words(data: str | Path, out: Path, *more: str) -> tuple[str | Path, ...]:
    tiny = ("--backbone", "backbone", "--precision", "float32", "--method", "pasta", "--set", "epochs=1")
    own = ("--text", "Sujet", "--label", "Th\u00e8me", "--encoding", "windows-1252")
    return ("train", data, *tiny, *own, "--out", out, *more)


def test_the_same_file_is_read_without_saying_its_encoding_again(
    mails: Path, shell: Shell, tmp_path: Path
) -> None:
    out = tmp_path / "adapter"
    assert shell(*train_words(mails, out)).code == 0
    assert Adapter.load(out).encoding == "windows-1252"
    told = json.loads(shell("eval", out, mails, "--json").out)
    assert told["scores"]["accuracy"] == Adapter.load(out).scores["accuracy"]
    assert all(LETTER not in row["text"] for row in told["worst"])
    answers = shell("predict", out, "--file", mails / "test.csv").out
    later = tmp_path / "later.csv"
    later.write_text((mails / "test.csv").read_text("cp1252"), "utf-8")
    assert len(answers.splitlines()) == 9 and shell("predict", out, "--file", later).out == answers
    wrong = shell.refused("predict", out, "--file", mails / "test.csv", "--encoding", "utf-8")
    assert "is not UTF-8" in wrong


@pytest.mark.parametrize(
    ("written", "remembered", "read"),
    [
        ("caf\u00e9".encode("cp1252"), "cp1252", "cp1252"),
        ("caf\u00e9".encode(), "cp1252", None),
        (b"cafe", "cp1252", "cp1252"),
        ("cafe".encode("utf-16-le"), "utf-16-le", "utf-16-le"),
        (b"cafe\xc3", "cp1252", "cp1252"),
        ("caf\u00e9".encode("cp1252"), None, None),
    ],
)
def test_what_is_remembered_of_an_encoding_is_not_used_where_a_file_shows_that_it_is_utf8(
    written: bytes, remembered: str | None, read: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(written)
    assert Encoding(None, remembered).of(file) == read
    assert Encoding("latin-1", remembered).of(file) == "latin-1"


def test_the_command_on_a_card_is_enough_to_train_the_adapter_again(
    mails: Path, shell: Shell, tmp_path: Path
) -> None:
    out = tmp_path / "first"
    more = ("--rows", "20", "--metric", "macro_f1", "--unsure-below", "0.4", "--seed", "3")
    assert shell(*train_words(mails, out, *more)).code == 0
    first = Adapter.load(out)
    words = shlex.split(training_command(first))[1:]
    recorded = {"--rows", "--text", "--label", "--encoding", "--metric", "--unsure-below", "--precision"}
    assert recorded <= set(words) and words[words.index("--precision") + 1] == "float32"
    given = {"BACKBONE": "backbone", "adapter": str(tmp_path / "again")}
    again = shell(*(given.get(word, word) for word in words), "--data-root", mails.parent)
    assert again.code == 0, again.err
    assert same(Adapter.load(tmp_path / "again"), first)


@pytest.mark.parametrize("method", ["probe", "full"])
def test_a_command_names_the_precision_that_the_encoder_had_where_it_is_known(method: str) -> None:
    settings = {} if method == "probe" else {"epochs": 1}
    base = tiny_base(precision="bfloat16")
    trained = api.train(tiny_data(train=8, dev=4, test=4), backbone=base, method=method, settings=settings)
    header = trained if isinstance(trained, Adapter) else trained.adapter
    assert "--precision bfloat16" in training_command(header)
    assert "--precision" not in training_command(make())


def test_a_file_of_requests_reads_an_adapters_tensors_once(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_text("text\nthe owl\n")
    read: list[int] = []
    real = store.read_tensors
    monkeypatch.setattr(store, "read_tensors", lambda *given: read.append(1) or real(*given))
    assert shell("predict", "adapters/classify", "--file", tmp_path / "a.csv").code == 0
    assert len(read) == 1
    told = shell.refused("predict", "adapters/absent", "--file", tmp_path / "a.csv")
    assert "absent: no such folder; expected one with" in told


def test_a_card_tells_a_folder_from_the_benchmark_of_its_name() -> None:
    assert "train glue/rte --" in training_command(make(task="glue/rte"))
    assert "train ./rte --" in training_command(make(task="rte"))
    assert "--metric METRIC" in training_command(make(metric="my own"))


def test_the_bundled_sets_are_named_as_train_takes_them() -> None:
    from softcue.tasks import open_data

    assert open_data("helpdesk/intent").name == "helpdesk/intent"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"unsure_below": 1.5}, "unsure_below is 1.5"),
        ({"kind": "score", "labels": (), "unsure_below": 0.5}, "unsure_below is 0.5 for kind 'score'"),
        ({"rows": 0}, "rows is 0"),
        ({"encoding": "a\nb"}, "encoding is"),
        ({"precision": "float16"}, "precision is 'float16'; expected float32 or bfloat16, or null"),
    ],
)
def test_a_record_of_training_that_cannot_be_is_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(AdapterError, match=told):
        replace(make(), **changed).check_savable()


def test_a_request_that_names_an_adapter_means_that_one(tmp_path: Path) -> None:
    one = quick(tiny_data("classify"))
    texts = [{"text": "the owl"}, {"text": "the owl", "adapter": one.task}]
    assert len(api.predict(one, texts, backbone=tiny_base())) == 2
    with pytest.raises(RequestError, match="names the adapter 'other'; this predictor has tiny-classify"):
        api.predict(one, [{"text": "the owl", "adapter": "other"}], backbone=tiny_base())


def test_a_column_that_is_called_adapter_names_none(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("adapter,text\nusb,the owl\n")
    result = shell("predict", "adapters/classify", "--file", tmp_path / "a.csv")
    assert result.code == 0 and "label" in json.loads(result.out), result.err
