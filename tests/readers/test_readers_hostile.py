"""Readers against bad input: every bad line is named, and nothing that is thrown at them raises
anything else.
"""

import random
import re
import time
import tracemalloc

import pytest

from softcue.errors import RequestError
from softcue.readers import read_data, read_file
from tests.readers.test_readers import ROWS, folder, jsonl, table


def refused(tmp_path, *parts, **files):
    with pytest.raises(RequestError) as caught:
        read_data(folder(tmp_path / "set", **files))
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    return str(caught.value)


BAD_LINES = [
    ('{"text": "", "label": "x"}', "text is empty"),
    ('{"text": "  ", "label": "x"}', "text is empty"),
    ('{"text": "a"}', "'label' missing"),
    ('{"label": "x"}', "'text' missing"),
    ('{"text": 3, "label": "x"}', "expected a string"),
    ('{"text": ["a"], "label": "x"}', "expected a string"),
    ('{"text": "a", "label": ["x"]}', "expected a string or a number"),
    ('{"text": "a", "label": ""}', "label is empty"),
    ('{"text": "a", "label": NaN}', "NaN"),
    ('{"text": "a", "label": 1e999}', "finite"),
    ('{"text": "a", "label": 2.5}', "label 2.5 among labels that are strings"),
    ('{"text": "a", "label": ' + "9" * 5000 + "}", "broken JSON"),
    ('{"text": "a", "label": ' + "9" * 400 + "}", "is too large for a number"),
    ('{"text": "a", "text_pair": "b", "label": "x"}', "unlike in the first row"),
    ('{"tokens": ["a"], "tags": ["O"]}', "of one kind"),
    ('{"text": "a", "lab', "broken JSON at column"),
    ("[1, 2]", "a JSON list"),
    ("null", "a JSON NoneType"),
    ("[" * 200_000, "nested too deeply"),
    ('{"text": "a\\ud800b", "label": "x"}', "surrogate"),
    ('{"text": "a\0b", "label": "x"}', "NUL byte at column 12"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_a_bad_line_is_named_with_its_file_and_number(tmp_path, line, message):
    body = jsonl(ROWS[:2]) + line + "\n" + jsonl(ROWS[2:4])
    said = refused(tmp_path, "train.jsonl:3: ", message, train__jsonl=body)
    assert "\n" not in said and len(said) < 400


BAD_TAGS = [
    ({"tokens": ["a"], "tags": ["PER"]}, "tag 1 is 'PER'"),
    ({"tokens": ["a", "b"], "tags": ["O"]}, "2 tokens and 1 tags"),
    ({"tokens": [], "tags": []}, "no tokens"),
    ({"tokens": ["a", " "], "tags": ["O", "O"]}, "token 2 is empty"),
    ({"tokens": "a b", "tags": "O O"}, "expected a list"),
    ({"tokens": ["a"], "tags": [3]}, "tag 1 is 3"),
    ({"text": "a", "label": "b"}, "of one kind"),
]


@pytest.mark.parametrize(("row", "message"), BAD_TAGS)
def test_a_bad_sentence_is_named_with_its_line(tmp_path, row, message):
    refused(tmp_path, "train.jsonl:2: ", message, train__jsonl=jsonl([{"tokens": ["a"], "tags": ["O"]}, row]))


@pytest.mark.parametrize("label", ["2", -1, 1.0, True, None, "first"])
def test_a_choice_that_is_no_index_is_refused(tmp_path, label):
    refused(
        tmp_path,
        "train.jsonl:1: ",
        train__jsonl=jsonl([{"text": "a", "choices": ["b", "c"], "label": label}]),
    )


def test_two_schemes_in_one_file_are_refused(tmp_path):
    refused(
        tmp_path,
        "train.jsonl:1: ",
        "BILOU",
        train__jsonl=jsonl([{"tokens": ["a", "b"], "tags": ["S-X", "U-X"]}]),
    )


def test_all_problems_are_listed_together_and_counted(tmp_path):
    good = jsonl(ROWS)
    said = refused(
        tmp_path,
        "70 problems",
        "train.jsonl:31: ",
        "and 50 more",
        train__jsonl=good + "{\n" * 30,
        dev__jsonl="x\n" * 40,
    )
    assert len(said.splitlines()) == 22


def test_a_table_without_the_columns_says_so_once(tmp_path):
    body = "sentence,gold\n" + "a,b\n" * 500
    said = refused(
        tmp_path, "train.csv:2: ", "'text' and 'label' missing", "sentence, gold", "--text", train__csv=body
    )
    assert "problems" not in said


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train__csv", "text,label,text\na,b,c\n", "train.csv:1: the header names 'text' twice"),
        ("train__csv", 'text,label\n"a\nb",x\nc\n', "train.csv:4: 1 columns; the header has 2"),
        ("train__csv", 'text,label\na,x\n"b,y\nc,z\n', "train.csv:3: broken row"),
        ("train__csv", 'text,label\n"b"c,y\n', "train.csv:2: broken row"),
        ("train__csv", "text,label\n", "train.csv:1: the file has no rows"),
        ("train__jsonl", "", "train.jsonl:1: the file has no rows"),
        (
            "train__jsonl",
            "caf\u00e9".encode("latin-1"),
            "train.jsonl:1: byte 4 of the line (0xe9) is not UTF-8",
        ),
        ("train__jsonl", jsonl(ROWS).encode("utf-16-le"), "train.jsonl:1: a NUL byte at column 2"),
        ("train__conll", "a O\nb\n", "train.conll:2: 1 columns"),
        ("train__conll", "a X O\nb O\n", "train.conll:2: 2 columns"),
        ("train__parquet", b"PAR1 not really", "train.parquet:1: not a readable Parquet file"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, name, content, message):
    refused(tmp_path, message, **{name: content})


def damaged(draw, name):
    """Bytes of a file that once was good."""
    rows = [
        {
            "text": draw.choice(["a,b", 'c "d"', "e\nf", "\u05d0\u05d1", "\U0001f600 g"]),
            "label": draw.choice("xyz"),
        }
        for _ in range(12)
    ]
    tags = "".join(
        f"w{n}\t{draw.choice(['O', 'B-X', 'I-X', 'E-X', 'X'])}\n" + "\n" * draw.randrange(2)
        for n in range(20)
    )
    body = {"jsonl": jsonl(rows), "csv": table(rows), "tsv": table(rows, "\t"), "conll": tags}[name].encode()
    at = draw.randrange(len(body))
    match draw.randrange(12):
        case 0:
            return body[:at]
        case 1:
            return body.decode().encode(draw.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"]))
        case 2:
            return (
                body[:at]
                + draw.choice([b"\0", b"\xe9", b"\xff\xfe", b"\r", b'"', b"\x1a", b"\xed\xa0\x80"])
                + body[at:]
            )
        case 3:
            return body + b'{"text": "' + b"a" * 10_000_000
        case 4:
            return body + b"[" * 100_000 + b"\n" + b'{"a":' * 50_000
        case 5:
            return (
                body
                + jsonl(
                    [{"tokens": ["a"], "tags": ["O"]}, {"text": "a", "choices": [], "label": 0}, {"text": 1}]
                ).encode()
            )
        case 6:
            return body + b'"quoted ""twice"",\n\nstill, "open\n' * draw.randrange(1, 4)
        case 7:
            return bytes(draw.randrange(256) for _ in range(300))
        case 8:
            lines = body.split(b"\n")
            draw.shuffle(lines)
            return b"\n".join(lines)
        case 9:
            flipped = bytearray(body)
            for _ in range(5):
                flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
            return bytes(flipped)
        case 10:
            return body.replace(b"\n", draw.choice([b"\r", b"\r\n", b"\n\n", b"\x0b", b"\xe2\x80\xa8"]))
        case _:
            return draw.choice(
                [
                    b"",
                    b"\n\n",
                    b"\0" * 100,
                    b"text,label",
                    b"null\n",
                    b"\xef\xbb\xbf",
                    body.replace(b"label", b"text"),
                ]
            )


def test_two_hundred_hostile_files_give_data_or_one_clear_error(tmp_path):
    draw = random.Random(7)
    refusals = 0
    for number in range(200):
        suffix = ("jsonl", "csv", "tsv", "conll")[number % 4]
        path = folder(tmp_path / str(number), **{f"train__{suffix}": damaged(draw, suffix)})
        target = path if draw.random() < 0.5 else path / f"train.{suffix}"
        try:
            data = read_data(target)
        except RequestError as error:
            refusals += 1
            said = str(error)
            assert re.search(rf"train\.{suffix}:\d+: ", said), said
            assert len(said) < 6000
        else:
            assert all(record.where for records in data.splits.values() for record in records)
    assert 50 < refusals < 200


def test_memory_is_bounded_by_what_is_kept_of_a_file(tmp_path):
    rows = ({"text": "same text", "label": "x", "note": "n" * 20_000} for _ in range(1000))
    path = folder(tmp_path, big__jsonl=jsonl(rows)) / "big.jsonl"
    tracemalloc.start()
    records = read_file(path).splits["test"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(records) == 1000 and path.stat().st_size > 20e6 and peak < 2e6
    assert records[0].label is records[-1].label and records[0].extra is records[-1].extra


def test_a_table_of_a_hundred_thousand_columns_with_one_name_twice_is_refused_at_once(tmp_path):
    names = [f"c{i}" for i in range(100_000)]
    (tmp_path / "wide.csv").write_text(",".join([*names, "c7"]) + "\n" + ",".join("x" * 100_001) + "\n")
    began = time.perf_counter()
    with pytest.raises(RequestError, match="the header names 'c7' twice"):
        read_data(tmp_path / "wide.csv")
    assert time.perf_counter() - began < 5


def test_a_single_file_is_named_itself_and_not_by_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mails.csv").write_text("text,label\n,x\nhello,\n")
    with pytest.raises(RequestError, match=r"^mails\.csv: 2 problems; correct these lines"):
        read_data("mails.csv")
