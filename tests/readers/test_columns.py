"""Columns: several as one text, names whatever their case, and what an adapter remembers of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from softcue.errors import RequestError
from softcue.readers import as_columns, read_file
from softcue.readers.columns import Columns, sources_of

ROWS = [
    {"Subject": "late", "Body": "where is it", "Kind": "order"},
    {"Subject": "thanks", "Body": "", "Kind": "praise"},
]


def written(folder: Path, rows: list[dict[str, Any]] = ROWS, name: str = "a.jsonl") -> Path:
    path = folder / name
    if name.endswith(".csv"):
        lines = [list(rows[0]), *([row[key] for key in rows[0]] for row in rows)]
        path.write_text("".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in lines))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(path: Path, columns: Any) -> list[str | None]:
    return [record.text for record in read_file(path, columns=columns).splits["test"]]


@pytest.mark.parametrize("said", ["subject,body", "subject, body", ["Subject", "Body"], '"subject","body"'])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_several_columns_make_one_text_and_empty_ones_are_left_out_and_counted(
    tmp_path: Path, said: Any, name: str
) -> None:
    data = read_file(written(tmp_path, name=name), columns={"text": said, "label": "kind"})
    assert [record.text for record in data.splits["test"]] == ["late. where is it", "thanks"]
    (warning,) = data.warnings
    line = 2 if name == "a.jsonl" else 3
    column = "body" if isinstance(said, str) else "Body"
    assert f"1 rows have nothing in the column {column!r}, the first at {name}:{line}" in warning
    assert data.columns["label"] == "kind"


def test_a_template_makes_the_text_and_braces_are_doubled(tmp_path: Path) -> None:
    columns = {"template": "{{{subject}}} \u2013 {Body}!", "label": "Kind"}
    assert texts(written(tmp_path), columns) == ["{late} \u2013 where is it!", "{thanks} \u2013 !"]


def test_a_template_reads_no_attribute_and_no_item_of_a_value(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"'Subject\.__class__' missing; the row has"):
        texts(written(tmp_path), {"template": "{Subject.__class__}", "label": "Kind"})


def test_a_name_with_a_comma_is_quoted_as_in_a_csv_file(tmp_path: Path) -> None:
    path = written(tmp_path, [{"Dear, Sir": "a", 'say "hi"': "x"}])
    assert texts(path, {"text": '"Dear, Sir"', "label": '"say ""hi"""'}) == ["a"]
    assert texts(path, {"text": ["Dear, Sir"], "label": ['say "hi"']}) == ["a"]
    with pytest.raises(RequestError, match="put a name that has a comma in quotes"):
        texts(path, {"text": '"Dear, Sir"', "label": "a,b"})


def test_names_match_whatever_their_case_and_the_exact_one_first(tmp_path: Path) -> None:
    assert texts(written(tmp_path, [{"Text": "a", "LABEL ": "x"}]), None) == ["a"]
    assert texts(written(tmp_path, [{"Text": "a", "text": "b", "label": "x"}]), None) == ["b"]
    assert texts(written(tmp_path, [{"Text": "a", "TEXT": "b", "label": "x"}]), {"text": "TEXT"}) == ["b"]


def test_a_name_that_fits_two_columns_is_refused_and_both_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, [{"Text": "a", "TEXT": "b", "label": "x"}])
    with pytest.raises(RequestError, match=r"a\.jsonl:1: the columns 'Text' and 'TEXT' both fit 'text'"):
        read_file(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": "subjekt", "label": "kind"}, r"1: 'subjekt' missing; the row has 'Subject, Body, Kind'"),
        ({"text": "subject,bdy", "label": "kind"}, r"1: no row has the column 'bdy'"),
        ({"text": "subject", "label": "kind", "text_pair": "none"}, r"1: 'none' missing; .*--text-pair"),
        ({"text": "body", "label": "kind"}, r"2: text is empty \(column 'Body'\)"),
        ({"text": "subject", "label": "body"}, r"2: label is empty \(column 'Body'\)"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_mistake_names_file_line_and_column(
    tmp_path: Path, name: str, columns: dict[str, str], message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        read_file(written(tmp_path, name=name), columns=columns)
    told = str(caught.value)
    if name == "a.csv":  # whose header is a line, too
        message = (
            message.replace("1: '", "2: '", 1).replace("2: text", "3: text").replace("2: label", "3: label")
        )
    import re

    assert re.search(r"a\.(jsonl|csv):" + message, told), told


def test_missing_values_are_counted_by_column(tmp_path: Path) -> None:
    rows = [{"Subject": "", "Kind": "x"}, {"Subject": None, "Kind": "x"}, {"Subject": "a", "Kind": None}]
    with pytest.raises(RequestError, match="missing values by column: 'Subject' 2, 'Kind' 1"):
        read_file(written(tmp_path, rows), columns={"text": "subject", "label": "kind"})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"txt": "a"}, "column names were given for 'txt'; expected one of text, text_pair"),
        ({"text": ""}, "expected names separated by commas"),
        ({"text": "a,,b"}, "expected names separated by commas"),
        ({"text": 'a"b",c"'}, ""),
        ({"text": []}, "expected a name, or a list of names"),
        ({"text": 3}, "expected a name, or a list of names"),
        ({"template": "no column"}, "names no column"),
        ({"template": "{a} }"}, "has an unmatched brace"),
        ({"template": "{a}", "text": "b"}, "give one of them"),
        ("text", "columns are 'text'; expected a dictionary"),
    ],
)
def test_what_is_no_name_of_a_column_is_refused(columns: Any, message: str) -> None:
    if message:
        with pytest.raises(RequestError, match=message):
            as_columns(columns)
    else:
        assert sources_of(as_columns(columns).given)["text"].names == ('a"b"', 'c"')


def test_remembered_columns_are_used_where_they_are_and_else_our_own_names(tmp_path: Path) -> None:
    known = Columns({}, {"text": "subject,body", "label": "kind"})
    assert texts(written(tmp_path), known) == ["late. where is it", "thanks"]
    assert texts(written(tmp_path, [{"text": "a", "label": "x"}]), known) == ["a"]
    given = as_columns({"text": "body"}, {"template": "{subject}", "label": "kind"})
    assert texts(written(tmp_path, ROWS[:1]), given) == ["where is it"], "what is given stands over it"


def test_a_column_that_was_named_for_one_field_is_no_other_field(tmp_path: Path) -> None:
    path = written(tmp_path, [{"text_pair": "a", "label": "x"}])
    data = read_file(path, columns={"text": "text_pair"})
    assert (data.pair, data.splits["test"][0].text) == (False, "a")
