"""The shared data sets, where they are: each loads, and has the rows and labels that its README states."""

import os
import re
from pathlib import Path

import pytest

from softcue.kinds.entities import entity_counts, split_tag
from softcue.tasks import find_task, open_data

ROOT = Path(os.environ.get("SOFTCUE_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data")
README = ROOT / "README.md"
pytestmark = pytest.mark.skipif(
    not README.is_file(), reason="the shared data folder is absent (set SOFTCUE_DATA)"
)


def stated():
    """(set, rows, labels, metric, what was done) of every line of the README's table."""
    if not README.is_file():
        return []
    lines = [
        line.split(" | ") for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| ")
    ]
    return [
        (cells[0].strip("| "), cells[1], cells[2], cells[3], cells[-1])
        for cells in lines
        if cells[0] not in ("| set", "| ---")
    ]


@pytest.mark.parametrize(
    ("name", "rows", "labels", "metric", "done"), stated(), ids=[row[0] for row in stated()]
)
def test_a_shared_set_has_the_rows_and_labels_that_its_readme_states(name, rows, labels, metric, done):
    data = open_data(ROOT / name)
    counts = [int(cell.replace(",", "")) if cell != "-" else None for cell in rows.split(" / ")]
    assert [
        len(data.splits[split]) if split in data.splits else None for split in ("train", "dev", "test")
    ] == counts
    kind = (
        "tag"
        if "micro-F1" in metric
        else "score"
        if "Pearson" in metric
        else "choice"
        if name == "copa_mc"
        else "classify"
    )
    assert data.kind == kind
    found = (
        sorted({split_tag(tag)[1] for record in data.splits["train"] for tag in record.tags if tag != "O"})
        if kind == "tag"
        else list(data.labels)
    )
    if kind == "choice":
        found = sorted({str(record.label) for record in data.splits["train"]})
    number = re.match(r"(\d+) (slot types|labels)", labels)
    if number:
        assert len(found) == int(number[1])
    elif kind != "score":
        assert sorted(found) == sorted(labels.split(", "))
    assert not any("repaired" in line for line in data.warnings)
    named = open_data(name, data_root=ROOT)
    task = find_task(name)
    assert (named.subset is not None) == ("SUBSET" in done or name in ("boolq", "multirc"))
    if task is not None:
        assert named.name == task.name and named.metrics == task.metrics


def test_conll2003_has_the_published_numbers_of_entities():
    data = open_data("conll2003", data_root=ROOT)
    totals = []
    for split in ("train", "dev", "test"):
        tags = [record.tags for record in data.splits[split]]
        totals.append(sum(right for right, _, _ in entity_counts(tags, tags).values()))
    assert totals == [23_499, 5_942, 5_648]


def test_wic_and_wsc_spans_show_the_words_they_name():
    for record in open_data("wic", data_root=ROOT).splits["train"]:
        for text, span in ((record.text, "span1"), (record.pair, "span2")):
            shown, word = text[slice(*record.extra[span])], record.extra["word"]
            assert shown and " " not in shown and text.startswith(f"{word}: ")
    wsc = [record for records in open_data("wsc", data_root=ROOT).splits.values() for record in records]
    shown = [(r.text[slice(*r.extra["span1"])], r.text[slice(*r.extra["span2"])]) for r in wsc]
    right = [
        a.lower() == r.pair.lower() and b == r.text.partition(": ")[0]
        for (a, b), r in zip(shown, wsc, strict=True)
    ]
    assert sum(right) / len(right) > 0.9


def test_multirc_groups_hold_the_answers_of_one_question():
    records = open_data("multirc", data_root=ROOT).splits["dev"]
    groups = {}
    for record in records:
        groups.setdefault(record.group, set()).add(record.text)
    assert len(groups) == 953 and all(len(texts) == 1 for texts in groups.values())
