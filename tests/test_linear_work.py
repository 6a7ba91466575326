"""Work that grows with the data and not with its square: long numbers, long texts, many labels."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from softcue import api
from softcue.answering.evaluation import run
from softcue.answering.predict import Predictor
from softcue.kinds.values import MOST_WORDS
from softcue.readers.items import Reading, make_items
from softcue.readers.records import Record
from softcue.scoring.report import MOST_CONFUSED, report
from softcue.studies.compare import constant, one_hot
from softcue.text.tokens import Encoded, Text
from tests.answering.test_predict import random_adapter
from tests.readers.test_items import TAGS
from tests.tiny_base import tags_of, tiny_base


@contextmanager
def quick(seconds: float) -> Iterator[None]:
    """Fails where the body takes longer than any linear work would."""
    began = time.process_time()
    yield
    assert time.process_time() - began < seconds


def test_a_label_of_digits_and_a_letter(tmp_path: Any) -> None:
    """The pattern of a number tried every way of cutting the digits in two."""
    (tmp_path / "train.csv").write_text("text,label\na,1\nb," + "1" * 200_000 + "x\n" + "c,2\n" * 3)
    with quick(5):
        api.open_data(tmp_path)


def test_no_window_of_a_long_text_reads_the_text_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    words, read = ["alice", "bob", "owl"] * 2_000, []
    encode = Text.encode_words

    def counting(self: Text, words: Sequence[str], limit: int | None = None) -> Encoded:
        read.append(len(words))
        return encode(self, words, limit)

    monkeypatch.setattr(Text, "encode_words", counting)
    record = Record(tokens=tuple(words), tags=tags_of(words))
    with quick(10):
        (item,) = make_items([record], tiny_base().text, Reading("tag", TAGS, 32))
    assert item.answering is not None and len(item.answering) == len(words)
    assert sum(read[1:]) <= 3 * len(words)


def test_a_long_text_is_answered_in_pieces_as_it_is_at_once() -> None:
    adapter = random_adapter(tiny_base(), "pasta", kind="tag")
    words = ["alice", "bob", "owl", "rome"] * 40
    reading = Reading("tag", adapter.labels, 16)
    items = make_items([Record(tokens=tuple(words)), Record(tokens=("bob",))], tiny_base().text, reading)
    model = Predictor(tiny_base(), {"own": adapter}).model
    whole, short = run(model, items, [0, 0], budget=10_000)
    pieces, again = run(model, items, [0, 0], budget=40)
    assert whole.shape[0] == len(words)
    torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(again, short, rtol=1e-5, atol=1e-6)


def test_a_file_without_empty_lines_is_one_sentence_too_long(tmp_path: Any) -> None:
    (tmp_path / "train.conll").write_text("owl O\n" * (MOST_WORDS + 1))
    with pytest.raises(api.RequestError, match="check that empty lines separate"):
        api.open_data(tmp_path)


def test_a_report_of_many_labels_has_no_table_of_their_pairs() -> None:
    labels = [f"label {i}" for i in range(MOST_CONFUSED + 1)]
    assert "confusion" not in report("classify", labels, labels, labels=labels)
    few = report("classify", labels[:3], labels[:3], labels=labels[:3])
    assert few["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_the_commonest_label_takes_one_row_and_not_a_table() -> None:
    reading = Reading("classify", tuple(f"label {i}" for i in range(50_000)), 16)
    row = one_hot(7, len(reading.labels))
    answers = [constant(Record(text="a"), reading, "label 7", row) for _ in range(100)]
    assert all(answer is row for answer in answers) and int(row.argmax()) == 7
