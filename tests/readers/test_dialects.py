"""Files as other programs write them: separators, encodings, JSON lists and Excel."""

import json
from pathlib import Path

import pytest

from softcue.errors import RequestError
from softcue.readers import read_data, read_file
from softcue.readers.stream import separator

ROWS = [("Grüße, Ärger; und mehr", "gut"), ('er sagt "nein"', "schlecht"), ("zwei\nZeilen", "gut")]


def plain(path: Path, **how: object) -> list[tuple[str | None, object]]:
    return [(record.text, record.label) for record in read_file(path, **how).splits["test"]]  # type: ignore[arg-type]


def table(between: str) -> str:
    cells = [["text", "label"], *([f'"{text.replace(chr(34), chr(34) * 2)}"', label] for text, label in ROWS)]
    return "".join(between.join(row) + "\r\n" for row in cells)


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_a_csv_file_is_read_whatever_separates_its_cells(tmp_path: Path, between: str) -> None:
    (tmp_path / "a.csv").write_bytes(table(between).encode())
    assert plain(tmp_path / "a.csv") == ROWS


def test_the_separator_is_the_one_that_makes_most_names_and_quoted_ones_do_not_count() -> None:
    assert separator("text,label") == ","
    assert separator("text") == ","
    assert separator('"a;b;c",label') == ","
    assert separator('"Text, lang";Kategorie') == ";"
    assert separator("a\tb;c\td") == "\t"


@pytest.mark.parametrize("encoding", ["windows-1252", "utf-16", "utf-16-le", "latin-1", "utf-8"])
def test_a_file_of_another_encoding_is_read_when_it_is_named(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes(table(";").encode(encoding))
    assert plain(tmp_path / "a.csv", encoding=encoding) == ROWS


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("said", [None, "windows-1252"])
def test_a_byte_order_mark_says_what_a_file_is_whatever_was_said(
    tmp_path: Path, encoding: str, said: str | None
) -> None:
    (tmp_path / "a.csv").write_bytes(table(",").encode(encoding))
    assert plain(tmp_path / "a.csv", encoding=said) == ROWS


def test_bytes_that_the_encoding_lacks_are_named_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,label\nna\x81ve,x\n")
    with pytest.raises(RequestError, match=r"a\.csv:2: character 3 of the line is not cp1252"):
        read_file(tmp_path / "a.csv", encoding="cp1252")
    with pytest.raises(RequestError, match=r"a\.csv:2: byte 3 .* --encoding windows-1252"):
        read_file(tmp_path / "a.csv")
    odd = table(",").encode("utf-16")
    (tmp_path / "b.csv").write_bytes(odd[:-1])
    with pytest.raises(RequestError, match=r"b\.csv:5: character \d+ of the line is not utf-16"):
        read_file(tmp_path / "b.csv")


@pytest.mark.parametrize("encoding", ["klingon", "base64", "hex", "", "utf\0", 3])
def test_an_encoding_that_is_none_is_refused(tmp_path: Path, encoding: object) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    with pytest.raises(RequestError, match=r"encoding .* is unknown; expected"):
        read_file(tmp_path / "a.csv", encoding=encoding)  # type: ignore[arg-type]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_json_list_is_a_file_of_rows(tmp_path: Path, indent: int | None, name: str) -> None:
    rows = [{"text": text, "label": label} for text, label in ROWS]
    (tmp_path / name).write_text("\n" + json.dumps(rows, indent=indent), encoding="utf-8")
    read = read_file(tmp_path / name).splits["test"]
    assert [(record.text, record.label) for record in read] == ROWS
    lines = [f"{name}:2"] * 3 if indent is None else [f"{name}:{line}" for line in (3, 7, 11)]
    assert [record.where for record in read] == lines


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('[{"text": "a", "label": "b"},\n', r"a\.json:2: broken JSON at column 1"),
        ('[{"text": "a", "label": "b"}', r"a\.json:1: a comma is missing in the list"),
        ('[{"text": "a", "label": "b"}\n{"text": "a", "label": "b"}]', r"a\.json:2: a comma is missing"),
        ('[{"text": "a", "label": "b"}]\n{}', r"a\.json:1: there is more text after the list"),
        ('[{"text": "a", "label": "b"},\n3]', r"a\.json:2: a JSON int in the list"),
        ('[{"text": "a", "label": "b"},\n{"text": NaN}]', r"a\.json:2: broken JSON \(NaN"),
        ("[" * 100_000, r"a\.json:1: JSON nested too deeply"),
        ("[]", r"a\.json:1: the file has no rows"),
        ('{"text": "a", "text": "b", "label": "c"}', r"a\.json:1: .*the key 'text' occurs twice"),
    ],
)
def test_a_json_list_that_is_damaged_is_refused_with_its_line(
    tmp_path: Path, body: str, message: str
) -> None:
    (tmp_path / "a.json").write_text(body)
    with pytest.raises(RequestError, match=message):
        read_file(tmp_path / "a.json")


def test_a_lone_carriage_return_never_swallows_rows(tmp_path: Path) -> None:
    for name, body in {"a.csv": "text,label\rb,c\rd,e\r", "a.conll": "a O\rb B-X\rc O\r"}.items():
        (tmp_path / name).write_bytes(body.encode())
        with pytest.raises(RequestError, match="a carriage return without a line feed"):
            read_file(tmp_path / name)


def sheet(path: Path, *rows: list[object], more: tuple[str, ...] = ()) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for title in more:
        book.create_sheet(title)
    book.save(path)
    return path


def test_an_excel_sheet_is_read_as_a_csv_file_is(tmp_path: Path) -> None:
    rows = [
        ["text", "note", None, "label"],
        ["a", None, None, 1],
        [],
        [2024, "x", None, 2],
        ["c", 1.5, None, True],
    ]
    data = read_file(sheet(tmp_path / "a.xlsx", *rows))
    read = [(record.text, record.label, record.where) for record in data.splits["test"]]
    assert read == [("a", "1", "a.xlsx:2"), ("2024", "2", "a.xlsx:4"), ("c", "true", "a.xlsx:5")]


def test_only_the_first_sheet_is_read_and_that_is_told(tmp_path: Path) -> None:
    data = read_file(sheet(tmp_path / "a.xlsx", ["text", "label"], ["a", "b"], more=("Second",)))
    assert data.warnings == ["a.xlsx has 2 sheets; the first, 'Sheet', is read"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["text", "text"], ["a", "b"]], r"a\.xlsx:1: the header names 'text' twice"),
        ([["text", "label"], ["a", "b", "c"]], r"a\.xlsx:2: cell C2 is in a column without a name"),
        ([["text", "label"], ["a", "#DIV/0!"]], r"a\.xlsx:2: cell B2 is #DIV/0!, the error of a formula"),
        ([["text", "label"], ["a", None], ["b", "x"]], r"a\.xlsx:2: label is empty"),
        ([["text", "label"]], r"a\.xlsx:1: the file has no rows"),
    ],
)
def test_a_faulty_sheet_is_refused_with_row_and_column(
    tmp_path: Path, rows: list[list[object]], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        read_file(sheet(tmp_path / "a.xlsx", *rows))


def test_what_is_no_workbook_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    for body in (b"", b"text,label\n", b"PK\x03\x04 not really"):
        (tmp_path / "a.xlsx").write_bytes(body)
        with pytest.raises(RequestError, match=r"a\.xlsx:1: not a readable Excel file"):
            read_data(tmp_path / "a.xlsx")


def test_without_the_library_excel_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "a.xlsx").write_bytes(b"x")
    with pytest.raises(RequestError, match=r"install softcue\[excel\]"):
        read_data(tmp_path / "a.xlsx")
