"""A thousand odd files are read whole or refused in words, and entities stand where they are said to be."""

import re
from collections import Counter
from pathlib import Path

import pytest

from softcue.answering.predict import Predictor
from softcue.errors import RequestError
from softcue.readers import read_file
from tests.answering.test_predict import random_adapter
from tests.soak.odd import OddFile, odd_file, odd_texts
from tests.tiny_base import tiny_base

FEW, MANY = 150, 1_000
TEXTS = 400


def outcome(file: OddFile, folder: Path) -> str:
    """What became of a file: "read", "refused", or what is wrong."""
    (folder / file.name).write_bytes(file.data)
    try:
        data = read_file(folder / file.name, encoding=file.encoding)
    except RequestError as error:
        if file.sound:
            return f"refused though sound: {error}"
        return "refused" if re.search(rf"{re.escape(file.name)}:\d+: ", str(error)) else f"no line: {error}"
    records = data.splits["test"]
    if len(records) != len(file.rows):
        return f"{len(file.rows)} rows were written, {len(records)} read"
    if file.sound and data.kind == "tag":
        same = [record.tokens for record in records] == [row[0] for row in file.rows]
        return "read" if same else "other words were read than written"
    if file.sound and [(r.text, r.label) for r in records] != list(file.rows):
        return "other texts or labels were read than written"
    return "read"


@pytest.mark.parametrize(
    "numbers", [range(FEW), pytest.param(range(FEW, MANY), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_a_thousand_odd_files_are_read_whole_or_refused_with_file_and_line(
    numbers: range, tmp_path: Path
) -> None:
    pytest.importorskip("openpyxl")
    found = Counter[str]()
    for number in numbers:
        told = outcome(odd_file(number), tmp_path)
        assert told in ("read", "refused"), f"file {number}: {told}"
        found[told] += 1
    assert min(found["read"], found["refused"]) > len(numbers) / 4, found


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_entities_in_odd_texts_are_what_stands_at_their_offsets(family: str) -> None:
    base = tiny_base(family)
    predictor = Predictor(base, {"tags": random_adapter(base, "pasta", "tag", limit=24)})
    texts = odd_texts(TEXTS)
    readable = [text for text in texts if text.strip() and base.text.split_words(text)]
    answers = predictor(readable, adapter="tags")
    entities = [
        (text, entity)
        for text, answer in zip(readable, answers, strict=True)
        for entity in answer["entities"]
    ]
    assert len(entities) > TEXTS / 2 and len(readable) > TEXTS / 2
    for text, entity in entities:
        assert entity["word"] and text[entity["start"] : entity["end"]] == entity["word"]
    for text in set(texts) - set(readable):
        with pytest.raises(RequestError, match="text is "):
            predictor([{"text": text}], adapter="tags")
