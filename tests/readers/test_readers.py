"""Readers: formats, kinds, rules for bad data, and files made to hurt."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softcue.errors import RequestError
from softcue.readers import read_data, read_file

ROWS = [{"text": f"text number {n}", "label": "yes" if n % 3 else "no"} for n in range(30)]


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(rows, delimiter=","):
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def folder(path, **files):
    """A folder of files; keys are names with the dot as two underscores."""
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (path / name.replace("__", ".")).write_bytes(data)
    return path


def test_the_same_rows_are_read_from_every_format(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    (tmp_path / "parquet").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "parquet" / "train.parquet")
    folder(tmp_path / "jsonl", train__jsonl=jsonl(ROWS))
    folder(tmp_path / "csv", train__csv=table(ROWS))
    folder(tmp_path / "tsv", train__tsv=table(ROWS, "\t"))
    read = [read_data(tmp_path / name).splits["train"] for name in ("jsonl", "csv", "tsv", "parquet")]
    plain = [[(record.text, record.label) for record in records] for records in read]
    assert plain[0] == [(row["text"], row["label"]) for row in ROWS]
    assert all(rows == plain[0] for rows in plain)
    assert [records[1].where for records in read] == [
        "train.jsonl:2",
        "train.csv:3",
        "train.tsv:3",
        "train.parquet:2",
    ]


@given(
    st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1)] * 2),
        min_size=1,
        max_size=5,
    )
)
def test_text_survives_jsonl_and_csv_unchanged(tmp_path_factory, pairs):
    rows = [{"text": f"x{text}", "label": f"y{label}"} for text, label in pairs]
    path = folder(tmp_path_factory.mktemp("texts"), a__jsonl=jsonl(rows), b__csv=table(rows))
    for name in ("a.jsonl", "b.csv"):
        assert [(record.text, record.label) for record in read_file(path / name).splits["test"]] == [
            (r["text"], r["label"]) for r in rows
        ]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"text": "a", "label": "x"}, "classify"),
        ({"text": "a", "label": 3}, "classify"),
        ({"text": "a", "text_pair": "b", "label": True}, "classify"),
        ({"text": "a", "label": 0.5}, "score"),
        ({"text": "a", "choices": ["b", "c"], "label": "1"}, "choice"),
        ({"tokens": ["a", "b"], "tags": ["B-X", "O"]}, "tag"),
    ],
)
def test_kinds_are_recognised(tmp_path, row, kind):
    assert read_data(folder(tmp_path / "set", train__jsonl=jsonl([row]))).kind == kind


def test_numbers_in_tables_are_classes_if_whole_and_scores_otherwise(tmp_path):
    whole = read_data(folder(tmp_path / "a", train__csv="text,label\na,10\nb,9\nc,2\n"))
    assert (whole.kind, whole.labels) == ("classify", ("2", "9", "10"))
    broken = read_data(folder(tmp_path / "b", train__csv="text,label\na,10\nb,9.5\n"))
    assert (broken.kind, [record.label for record in broken.splits["train"]]) == ("score", [10.0, 9.5])
    forced = read_data(folder(tmp_path / "c", train__csv="text,label\na,10\nb,9.5\n"), kind="classify")
    assert forced.labels == ("10", "9.5")
    scored = read_data(folder(tmp_path / "d", train__jsonl=jsonl([{"text": "a", "label": 3}])), kind="score")
    assert scored.splits["train"][0].label == 3.0


def test_choices_and_tags_in_tables_are_json_lists(tmp_path):
    data = read_data(
        folder(tmp_path / "set", train__csv='tokens,tags\n"[""a"", ""b""]","[""B-X"", ""O""]"\n')
    )
    assert data.splits["train"][0].tokens == ("a", "b") and data.labels == ("O", "B-X")


def test_conll_is_read_in_iob1_iob2_and_bioes_alike(tmp_path):
    words = ["EU", "rejects", "German", "Bonn", "call"]
    schemes = {
        "a": ["I-ORG", "O", "I-LOC", "B-LOC", "I-LOC"],
        "b": ["B-ORG", "O", "B-LOC", "B-LOC", "I-LOC"],
        "c": ["S-ORG", "O", "S-LOC", "B-LOC", "E-LOC"],
        "d": ["U-ORG", "O", "U-LOC", "B-LOC", "L-LOC"],
    }
    read = {}
    for name, tags in schemes.items():
        body = (
            "-DOCSTART- -X- O\n\n"
            + "".join(f"{w} NNP {t}\n" for w, t in zip(words, tags, strict=True))
            + "\n"
        )
        read[name] = read_data(folder(tmp_path / name, train__conll=body, dev__txt=body))
    assert all(data.splits["train"][0].tags == tuple(schemes["b"]) for data in read.values())
    assert read["b"].warnings == ["1 dev row also occurs in train"]
    assert any("IOB1" in line for line in read["a"].warnings) and any(
        "BILOU" in line for line in read["d"].warnings
    )
    assert read["a"].splits["train"][0].where == "train.conll:3"


def test_an_orphan_tag_is_repaired_and_counted_with_its_line(tmp_path):
    rows = [{"tokens": ["a", "b"], "tags": ["B-X", "I-X"]}, {"tokens": ["a", "b"], "tags": ["O", "I-X"]}]
    data = read_data(folder(tmp_path / "set", train__jsonl=jsonl(rows)))
    assert data.splits["train"][1].tags == ("O", "B-X")
    assert data.warnings == ["train.jsonl: repaired 1 tags that IOB2 forbids; the first at train.jsonl:2"]


def test_columns_can_be_named_and_unknown_keys_are_ignored(tmp_path):
    rows = [{"gold": "x", "sentence": "a", "note": {"deep": [1]}, "group": 4}]
    data = read_data(
        folder(tmp_path / "set", train__jsonl=jsonl(rows)), columns={"text": "sentence", "label": "gold"}
    )
    record = data.splits["train"][0]
    assert (record.text, record.label, record.group, record.extra) == ("a", "x", None, {})
    with pytest.raises(RequestError, match="txt"):
        read_data(tmp_path / "set", columns={"txt": "sentence"})


def test_labels_that_train_lacks_are_kept_with_a_warning(tmp_path):
    path = folder(
        tmp_path / "set", train__jsonl=jsonl(ROWS), dev__jsonl=jsonl([{"text": "q", "label": "maybe"}])
    )
    data = read_data(path)
    assert data.labels == ("no", "yes") and data.splits["dev"][0].label == "maybe"
    assert data.warnings == [
        "dev: 1 rows have labels that train lacks (maybe); they are kept and counted as wrong"
    ]


def test_a_single_file_is_split_by_seed_without_loss(tmp_path):
    path = folder(tmp_path, all__jsonl=jsonl(ROWS)) / "all.jsonl"
    data = read_data(path, seed=1)
    assert {split: len(records) for split, records in data.splits.items()} == {
        "train": 24,
        "dev": 3,
        "test": 3,
    }
    assert sorted(r.where for records in data.splits.values() for r in records) == sorted(
        f"all.jsonl:{n}" for n in range(1, 31)
    )
    assert "single file" in data.warnings[0]
    assert read_data(path, seed=1).splits == data.splits != read_data(path, seed=2).splits
    assert read_data(path, seed=1, splits=("test",)).splits["test"] == data.splits["test"]
    assert len(read_file(path).splits["test"]) == 30
    with pytest.raises(RequestError, match=r"two\.csv:3: 2 rows are too few"):
        read_data(folder(tmp_path, two__csv="text,label\na,1\nb,2\n") / "two.csv")


def test_a_limit_keeps_the_first_rows_of_one_seeded_shuffle(tmp_path):
    path = folder(tmp_path / "set", train__jsonl=jsonl(ROWS), val__jsonl=jsonl(ROWS[:4]))
    few, more = (read_data(path, seed=5, limit={"train": n}) for n in (5, 9))
    assert more.splits["train"][:5] == few.splits["train"] and len(few.splits["dev"]) == 4
    assert few.splits["train"] != read_data(path, seed=6, limit={"train": 5}).splits["train"]
    with pytest.raises(RequestError, match="the number of train rows 0 came"):
        read_data(path, limit={"train": 0})


def test_a_byte_order_mark_is_accepted(tmp_path):
    for name, body in (("train__jsonl", jsonl(ROWS)), ("train__csv", table(ROWS))):
        assert (
            len(read_data(folder(tmp_path / name, **{name: b"\xef\xbb\xbf" + body.encode()})).splits["train"])
            == 30
        )


def test_csv_fields_hold_quotes_commas_and_line_breaks(tmp_path):
    data = read_data(folder(tmp_path / "set", train__csv='text,label\n"say ""hi"",\nthen go",x\r\nplain,y\n'))
    assert [(r.text, r.where) for r in data.splits["train"]] == [
        ('say "hi",\nthen go', "train.csv:2"),
        ("plain", "train.csv:4"),
    ]


def test_quotes_in_tsv_are_text(tmp_path):
    data = read_data(folder(tmp_path / "set", train__tsv='text\tlabel\n"so he said\tx\n'))
    assert data.splits["train"][0].text == '"so he said'


def test_empty_second_texts_are_kept_with_a_warning(tmp_path):
    data = read_data(folder(tmp_path / "set", train__csv="text,text_pair,label\na,b,x\nc,,y\n"))
    assert data.pair and data.splits["train"][1].pair == ""
    assert data.warnings == ["1 rows have an empty second text, the first at train.csv:3"]


def test_paths_that_hold_no_data_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    folder(tmp_path / "double", train__csv="text,label\na,b\n", train__jsonl=jsonl(ROWS))
    folder(tmp_path / "odd", train__docx="x")
    cases = {
        "missing": "does not exist",
        "empty": "it has nothing",
        "double": "keep one",
        "odd": "train.docx",
        "odd/train.docx": "no known format",
    }
    for name, message in cases.items():
        with pytest.raises(RequestError, match=message):
            read_data(tmp_path / name)
    for wrong in ({"kind": "rank"}, {"splits": ("training",)}):
        with pytest.raises(RequestError, match="unknown"):
            read_data(folder(tmp_path / "good", train__jsonl=jsonl(ROWS)), **wrong)
    for odd in ("a\0b", "x" * 5000):
        with pytest.raises(RequestError):
            read_data(odd)
