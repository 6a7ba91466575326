"""Seven ways in: each file or table, as it lies, becomes an adapter that is trained, saved, loaded again and
answers; what was said of its columns once is not said again.
"""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import softcue
from softcue.answering.predict import Predictor
from softcue.readers.records import Record
from tests.cli.shell import Shell, make_place, make_shell  # noqa: F401  (fixtures)
from tests.tiny_base import tiny_base, tiny_data

HEADER = ("Betreff", "Nachricht", "Kategorie")
SAID = ("--text", "betreff,nachricht", "--label", "KATEGORIE")
ORIGINAL = {"Betreff": "an owl", "Nachricht": "and a crow"}


def records(kind: str = "classify") -> list[Record]:
    return tiny_data(kind, train=40, dev=0, test=0).splits["train"]


def mails() -> Iterator[tuple[str, str, str]]:
    for number, record in enumerate(records()):
        first, _, rest = str(record.text).partition(" ")
        yield first + " caf\u00e9", rest if number % 5 else "", str(record.label)


def semicolons(path: Path) -> Path:
    with path.open("w", encoding="windows-1252", newline="") as file:
        csv.writer(file, delimiter=";").writerows([HEADER, *mails()])
    return path


def tabs(path: Path) -> Path:
    path.write_text("".join("\t".join(row) + "\n" for row in [HEADER, *mails()]), encoding="utf-16")
    return path


def excel(path: Path) -> Path:
    book = pytest.importorskip("openpyxl").Workbook()
    for row in (HEADER, *mails()):
        book.active.append([cell or None for cell in row])
    book.save(path)
    return path


def jsonl(path: Path) -> Path:
    rows = [dict(zip(HEADER, row, strict=True)) for row in mails()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def conll(path: Path) -> Path:
    sentences = [zip(record.tokens, record.tags, strict=True) for record in records("tag")]
    path.write_text("\n".join("".join(f"{word} {tag}\n" for word, tag in own) for own in sentences))
    return path


FILES: dict[str, tuple[Callable[[Path], Path], tuple[str, ...], tuple[str, ...]]] = {
    "mails.csv": (semicolons, SAID, ("--encoding", "windows-1252")),
    "mails.tsv": (tabs, SAID, ()),
    "mails.xlsx": (excel, SAID, ()),
    "mails.jsonl": (jsonl, SAID, ()),
    "words.conll": (conll, (), ()),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_reaches_an_answering_adapter_in_one_command(name: str, shell: Shell, tmp_path: Path) -> None:
    write, columns, how = FILES[name]
    file, out = write(tmp_path / name), tmp_path / "adapter"
    common = ("--backbone", "backbone", "--precision", "float32", *how)
    trained = shell(
        "train", file, "--method", "bitfit", "--set", "epochs=1", "--out", out, *columns, *common, "--json"
    )
    assert trained.code == 0, trained.err
    if columns:
        assert "8 rows have nothing in the column 'nachricht'" in trained.err
    scored = shell("eval", out, file, *common, "--json")
    assert scored.code == 0, scored.err
    metrics = json.loads(trained.out)["scores"]
    for metric, value in json.loads(scored.out)["scores"].items():
        assert value == pytest.approx(metrics[metric], abs=1e-6)
    answered = shell("predict", out, "--file", file, *common)
    assert answered.code == 0, answered.err
    answers = [json.loads(line) for line in answered.out.splitlines()]
    assert len(answers) == 40
    if columns:
        predictor = Predictor(tiny_base(), {"mails": out})
        joined, original = predictor(
            [{"text": "an owl. and a crow"}, {name.upper(): cell for name, cell in ORIGINAL.items()}],
            adapter="mails",
        )
        assert joined["scores"] == pytest.approx(original["scores"])
        first = next(mails())
        assert answers[0]["scores"] == pytest.approx(
            predictor([dict(zip(HEADER, first, strict=True))], adapter="mails")[0]["scores"], abs=1e-5
        )


@pytest.mark.parametrize("library", ["pandas", "polars", "datasets"])
def test_a_table_reaches_an_answering_adapter_in_three_lines(library: str, tmp_path: Path) -> None:
    module = pytest.importorskip(library)
    rows = [dict(zip(HEADER, row, strict=True)) for row in mails()]
    table = module.Dataset.from_list(rows) if library == "datasets" else module.DataFrame(rows)
    quick: dict[str, Any] = {"backbone": tiny_base(), "method": "bitfit", "settings": {"epochs": 1}}

    adapter = softcue.train(table, columns={"text": ["Betreff", "Nachricht"], "label": "Kategorie"}, **quick)
    folder = adapter.save(tmp_path / "adapter")
    answers = Predictor(tiny_base(), {"mails": folder})(table, adapter="mails")

    assert len(answers) == 40 and json.loads(json.dumps(answers)) == answers
    result = softcue.evaluate(folder, table, backbone=tiny_base())
    assert result.scores["accuracy"] == pytest.approx(adapter.scores["accuracy"], abs=1e-6)
    assert softcue.evaluate(folder, {"test": table}, backbone=tiny_base()).rows == 40


def test_a_name_that_is_wrong_for_eval_and_predict_is_told(shell: Shell, tmp_path: Path) -> None:
    file, out = jsonl(tmp_path / "mails.jsonl"), tmp_path / "adapter"
    common = ("--backbone", "backbone", "--precision", "float32")
    assert (
        shell("train", file, "--method", "bitfit", "--set", "epochs=1", "--out", out, *SAID, *common).code
        == 0
    )
    (tmp_path / "other.csv").write_text("Titel,Inhalt\na,b\n")
    told = shell.refused("predict", out, "--file", tmp_path / "other.csv", *common)
    assert "other.csv:2" in told and "Titel, Inhalt" in told and "betreff,nachricht" in told
    assert (
        shell("predict", out, "--file", tmp_path / "other.csv", "--text", "titel,inhalt", *common).code == 0
    )
    told = shell.refused("predict", out, "--file", tmp_path / "other.csv", "--text", "title", *common)
    assert "other.csv:2: 'title' missing" in told
    assert "betreff,nachricht" in shell("info", out).out
