"""Tags: entities as spans of characters, and tags as numbers with their names."""

import json
from pathlib import Path
from typing import Any

import pytest

from softcue.errors import RequestError
from softcue.readers import read_file

NAMES = "O,B-PER,I-PER,B-LOC"


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def spans(text: str, *found: tuple[int, int, str]) -> dict[str, Any]:
    return {"text": text, "entities": [{"start": a, "end": b, "label": label} for a, b, label in found]}


def test_spans_of_characters_become_words_and_tags(tmp_path: Path) -> None:
    text = 'Dr. "Ada Lovelace" met U.S. staff\u200b in K\u00f6ln.'
    rows = (spans(text, (23, 27, "ORG"), (5, 17, "PER"), (38, 42, "LOC")), spans("nobody here"))
    data = read_file(written(tmp_path / "a.jsonl", *rows))
    first, second = data.splits["test"]
    tagged = dict(zip(first.tokens, first.tags, strict=True))
    assert {word: tag for word, tag in tagged.items() if tag != "O" and word != "."} == {
        "Ada": "B-PER",
        "Lovelace": "I-PER",
        "U": "B-ORG",
        "S": "I-ORG",
        "K\u00f6ln": "B-LOC",
    }
    assert "".join(first.tokens) == text.replace(" ", "")
    assert (data.kind, second.tags) == ("tag", ("O", "O"))


def test_softcues_own_answers_are_entities_too(tmp_path: Path) -> None:
    row = {"text": "in Oslo", "entities": [{"entity_group": "LOC", "start": 3, "end": 7, "word": "Oslo"}]}
    assert read_file(written(tmp_path / "a.jsonl", row)).splits["test"][0].tags == ("O", "B-LOC")


def test_entities_stand_in_a_cell_of_a_table_and_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        'body,marks\nin Oslo,"[{""start"": 3, ""end"": 7, ""label"": ""LOC""}]"\n'
    )
    data = read_file(tmp_path / "a.csv", columns={"text": "body", "entities": "marks"})
    assert data.splits["test"][0].tags == ("O", "B-LOC")


def test_a_label_beside_entities_is_what_is_learnt_unless_tags_are_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {**spans("in Oslo", (3, 7, "LOC")), "label": "x"})
    assert read_file(path).kind == "classify"
    assert read_file(path, kind="tag").kind == "tag"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((3, 6, "X"), "the entity 'Osl' .3 to 6. cuts through the word 'Oslo'; expected whole words"),
        ((2, 7, "X"), r"the entity .* begins or ends with a space"),
        ((3, 8, "X"), "entity 1 goes from 3 to 8; expected a span within 0 to 7"),
        ((-4, 7, "X"), "entity 1 goes from -4 to 7"),
        ((3, 3, "X"), "entity 1 goes from 3 to 3"),
        ((True, 2, "X"), "entity 1 goes from True to 2; expected whole numbers"),
        (("3", 7, "X"), "entity 1 goes from '3' to 7"),
        ((3, 7, ""), "the label of entity 1 is empty"),
        ((3, 7, None), "the label of entity 1 is a NoneType"),
    ],
)
def test_a_span_that_does_not_fit_its_text_is_refused(tmp_path: Path, found: Any, message: str) -> None:
    with pytest.raises(RequestError, match=r"a\.jsonl:1: " + message):
        read_file(written(tmp_path / "a.jsonl", spans("in Oslo", found)), kind="tag")


def test_spans_that_overlap_are_refused_in_whatever_order_they_come(tmp_path: Path) -> None:
    row = spans("in Oslo then", (3, 12, "X"), (3, 7, "Y"))
    with pytest.raises(RequestError, match="overlaps with"):
        read_file(written(tmp_path / "a.jsonl", row))


@pytest.mark.parametrize("entity", [3, [0, 2, "X"], {"start": 0}])
def test_what_is_no_entity_is_refused(tmp_path: Path, entity: Any) -> None:
    with pytest.raises(RequestError, match=r"a\.jsonl:1: entity 1 "):
        read_file(written(tmp_path / "a.jsonl", {"text": "in Oslo", "entities": [entity]}))


def test_tags_that_are_numbers_are_named_and_ner_tags_is_known(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {"tokens": ["Ada", "L", "in"], "ner_tags": [1, 2, 0]})
    data = read_file(path, columns={"tag_names": NAMES})
    assert data.splits["test"][0].tags == ("B-PER", "I-PER", "O")
    assert data.columns == {"tag_names": NAMES}
    (tmp_path / "a.conll").write_text("Ada 1\nin 0\n\nOslo 3\n")
    tags = [
        record.tags for record in read_file(tmp_path / "a.conll", columns={"tag_names": NAMES}).splits["test"]
    ]
    assert tags == [("B-PER", "O"), ("B-LOC",)]


def test_a_number_without_a_name_is_refused_with_its_line_and_column(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {"tokens": ["Ada"], "ner_tags": [4]})
    with pytest.raises(RequestError, match=r"a\.jsonl:1: tag 1 is 4; expected 0 to 3.*\(column 'ner_tags'\)"):
        read_file(path, columns={"tag_names": NAMES})
    with pytest.raises(RequestError, match=r"a\.jsonl:1: tag 1 is 4; .*--tag-names"):
        read_file(path)


def test_a_span_in_a_script_without_spaces_is_refused_with_what_to_do(tmp_path: Path) -> None:
    row = spans("\u6211\u5728\u5317\u4eac\u3002", (2, 4, "LOC"))
    with pytest.raises(
        RequestError, match=r"a.jsonl:1: .*no spaces between words: give the row as tokens and tags"
    ):
        read_file(written(tmp_path / "a.jsonl", row))
