"""The bundled help-desk set: what is committed is what the generator writes, and its test
splits say something.
"""

import importlib.util
import json
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = ROOT / "softcue" / "data" / "helpdesk"
SPLITS = ("train", "dev", "test")
TASKS = ("intent", "urgency", "duplicates", "entities")
EMPTY_WORDS = set(
    re.findall(
        r"\w+",
        "a an and any are as at be been by can could do does for from has have how i in is it its me "
        "my no not of on or our please so"
        " that the there this to us was we were what when where which will with would you your",
    )
)


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_helpdesk", ROOT / "scripts" / "make_helpdesk.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(task: str, split: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in (BUNDLED / task / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def by_split(table: dict[str, Any]) -> Iterator[dict[str, list[str]]]:
    """Every part of a template file that has wordings for each split."""
    if "train" in table and isinstance(table["train"], list):
        yield {split: [text for text in flat(table[split]) if text] for split in SPLITS}
    for value in table.values():
        if isinstance(value, dict):
            yield from by_split(value)


def flat(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for part in value:
            yield from flat(part)


def content(template: str) -> set[str]:
    return set(re.findall(r"\w+", re.sub(r"\{\w+\}", "", template).lower())) - EMPTY_WORDS


def test_the_committed_files_are_what_the_generator_writes(maker: ModuleType, tmp_path: Path) -> None:
    maker.write(tmp_path)
    fresh = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    committed = {path.relative_to(BUNDLED): path.read_bytes() for path in BUNDLED.rglob("*.jsonl")}
    assert (
        sorted(fresh)
        == sorted(committed)
        == sorted(Path(task) / f"{split}.jsonl" for task in TASKS for split in SPLITS)
    )
    differ = [str(name) for name in fresh if fresh[name] != committed[name]]
    assert not differ, f"{differ} differ from the templates; run `python scripts/make_helpdesk.py`"


def test_the_set_is_smaller_than_a_megabyte_and_holds_some_thousand_messages() -> None:
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*")) < 1_000_000
    sizes = {task: [len(read(task, split)) for split in SPLITS] for task in TASKS}
    assert all(train >= 400 and dev >= 100 and test >= 200 for train, dev, test in sizes.values()), sizes


@pytest.mark.parametrize("name", ["intent", "asides", "urgency", "duplicates", "entities"])
def test_no_wording_serves_two_splits(maker: ModuleType, name: str) -> None:
    parts = list(by_split(maker.load(name)))
    assert parts
    wordings = {
        split: {text.lower() for part in parts for text in part[split] if " " in text} for split in SPLITS
    }
    for one, two in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not wordings[one] & wordings[two] - {"thank you.", "best wishes"}


@pytest.mark.parametrize("name", ["intent", "asides", "urgency", "duplicates"])
def test_no_held_out_wording_is_a_train_wording_with_a_few_words_changed(
    maker: ModuleType, name: str
) -> None:
    for part in by_split(maker.load(name)):
        for held_out, trained in product(part["dev"] + part["test"], part["train"]):
            one, two = content(held_out), content(trained)
            if len(one & two) >= 2:
                assert len(one & two) / len(one | two) < 0.6, (held_out, trained)


@pytest.mark.parametrize("task", TASKS)
def test_no_message_is_in_two_splits(task: str) -> None:
    seen: dict[str, str] = {}
    for split in SPLITS:
        for record in read(task, split):
            key = json.dumps([record.get("text"), record.get("text_pair"), record.get("tokens")])
            assert key not in seen, (split, seen[key], key)
            seen[key] = split


def test_every_intent_is_in_every_split_about_equally_often() -> None:
    for split in SPLITS:
        counts: dict[str, int] = {}
        for record in read("intent", split):
            counts[record["label"]] = counts.get(record["label"], 0) + 1
        assert len(counts) == 12
        assert max(counts.values()) - min(counts.values()) <= 0.1 * max(counts.values()) + 2


def test_urgency_is_between_0_and_10_and_uses_the_scale() -> None:
    for split in SPLITS:
        scores = [record["label"] for record in read("urgency", split)]
        assert all(isinstance(score, float) and 0 <= score <= 10 for score in scores)
        assert min(scores) < 1.5
        assert max(scores) > 8.5


def test_half_of_the_pairs_are_duplicates_and_no_pair_has_a_message_twice() -> None:
    for split in SPLITS:
        records = read("duplicates", split)
        assert sum(record["label"] == "duplicate" for record in records) == len(records) // 2
        assert {record["label"] for record in records} == {"duplicate", "not_duplicate"}
        assert all(record["text"].lower() != record["text_pair"].lower() for record in records)


def test_all_tags_are_valid_iob2_and_fit_their_tokens() -> None:
    kinds = {"PRODUCT", "VERSION", "ERROR", "PERSON", "DATE", "ORDER"}
    for split in SPLITS:
        found = set()
        for record in read("entities", split):
            assert len(record["tokens"]) == len(record["tags"]) > 0
            assert all(token and not re.search(r"[\s{}\[\]|]", token) for token in record["tokens"])
            for before, tag in zip(["O", *record["tags"]], record["tags"], strict=False):
                assert tag[:2] != "I-" or before in (f"B-{tag[2:]}", tag), record
                assert tag == "O" or (tag[:2] in ("B-", "I-") and tag[2:] in kinds)
                found |= {tag[2:]} - {""}
        assert found == kinds


@pytest.mark.parametrize("kind", ["PRODUCT", "PERSON", "ORDER", "ERROR", "VERSION"])
def test_half_of_the_test_entities_are_names_that_train_never_shows(maker: ModuleType, kind: str) -> None:
    table = maker.load("entities")[kind]
    known = set(table["train"]) | set(table["all"])
    test = [*table["test"], *table["all"]]
    assert sum(filler not in known for filler in test) >= len(test) / 2


def test_no_slot_or_choice_is_left_open_in_a_message() -> None:
    for task in ("intent", "urgency", "duplicates"):
        for split in SPLITS:
            for record in read(task, split):
                assert not re.search(r"[{}\[\]|]|  ", record["text"] + record.get("text_pair", "")), record
