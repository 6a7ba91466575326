"""Tasks: the tables are consistent, the templates are the published ones, and names find their data."""

import json
import sys
import types

import pytest

from softcue.errors import RequestError
from softcue.readers import Hub, read_data
from softcue.scoring.metrics import METRICS
from softcue.tasks import Task, all_tasks, find_task, inputs_of, open_data, present, register
from softcue.tasks.base import load, single

# rows as the hub publishes them, class numbers already names
PUBLISHED = {
    "glue/cola": {"sentence": "a", "label": "acceptable", "idx": 0},
    "glue/sst2": {"sentence": "a", "label": "positive", "idx": 0},
    "glue/mrpc": {"sentence1": "a", "sentence2": "b", "label": "equivalent", "idx": 0},
    "glue/stsb": {"sentence1": "a", "sentence2": "b", "label": 2.5, "idx": 0},
    "glue/qqp": {"question1": "a", "question2": "b", "label": "duplicate", "idx": 0},
    "glue/mnli": {"premise": "a", "hypothesis": "b", "label": "neutral", "idx": 0},
    "glue/mnli_mm": {"premise": "a", "hypothesis": "b", "label": "neutral", "idx": 0},
    "glue/qnli": {"question": "a", "sentence": "b", "label": "entailment", "idx": 0},
    "glue/rte": {"sentence1": "a", "sentence2": "b", "label": "entailment", "idx": 0},
    "glue/wnli": {"sentence1": "a", "sentence2": "b", "label": "entailment", "idx": 0},
    "superglue/boolq": {"question": "a", "passage": "b", "label": "True", "idx": 0},
    "superglue/cb": {"premise": "a", "hypothesis": "b", "label": "neutral", "idx": 0},
    "superglue/copa": {
        "premise": "a.",
        "choice1": "b",
        "choice2": "c",
        "question": "effect",
        "label": "choice2",
        "idx": 0,
    },
    "superglue/multirc": {
        "paragraph": "p",
        "question": "q?",
        "answer": "r",
        "label": "False",
        "idx": {"paragraph": 1, "question": 2, "answer": 3},
    },
    "superglue/record": {
        "passage": "p\n@highlight\nh",
        "query": "@placeholder won",
        "entities": ["Ann", "Bob"],
        "answers": ["Bob"],
        "idx": {"passage": 4, "query": 5},
    },
    "superglue/rte": {"premise": "a", "hypothesis": "b", "label": "entailment", "idx": 0},
    "superglue/wic": {
        "word": "bank",
        "sentence1": "The bank paid.",
        "sentence2": "On a river bank",
        "start1": 4,
        "end1": 8,
        "start2": 11,
        "end2": 15,
        "label": "False",
    },
    "superglue/wsc": {
        "text": 'Ann saw Eve. "She ran.',
        "span1_index": 2,
        "span1_text": "Eve",
        "span2_index": 3,
        "span2_text": "she",
        "label": "True",
    },
    "conll2003": {"tokens": ["a", "b"], "ner_tags": ["B-PER", "O"], "pos_tags": ["X", "Y"]},
    "conll04": {
        "tokens": ["a", "b", "c"],
        "entities": [{"type": "Loc", "start": 1, "end": 3}],
        "relations": [],
    },
    "ontonotes5": {"tokens": ["a", "b"], "tags": [4, 5]},
    "wnut17": {"tokens": ["a", "b"], "ner_tags": ["B-person", "O"]},
    "agnews": {"text": "a", "label": "World"},
}
PUBLISHED["superglue/wic_question"] = PUBLISHED["superglue/wic"]


def hub_with(monkeypatch, row):
    """`datasets` with one data set, whose every split is one row."""

    class Rows(list):
        features = dict.fromkeys(row)

    def load_dataset(identity, config, revision):
        names = ("train", "validation", "validation_matched", "validation_mismatched", "test")
        return {name: Rows([dict(row)]) for name in names}

    module = types.ModuleType("datasets")
    module.ClassLabel = type("ClassLabel", (), {})
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_the_suites_are_complete():
    glue = {
        f"glue/{name}"
        for name in ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "mnli_mm", "qnli", "rte", "wnli"]
    }
    superglue = {
        f"superglue/{name}"
        for name in ["boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wic_question", "wsc"]
    }
    assert {task.name for task in all_tasks()} >= glue | superglue | {
        "conll2003",
        "conll04",
        "ontonotes5",
        "wnut17",
    }
    official = {
        "glue/cola": "matthews",
        "glue/stsb": "pearson",
        "superglue/multirc": "f1a",
        "superglue/record": "record_f1",
        "conll2003": "f1",
    }
    assert {name: find_task(name).metrics[0] for name in official} == official
    assert (
        find_task("superglue/cb").metrics == ("accuracy", "macro_f1")
        and find_task("glue/qqp").positive == "duplicate"
    )


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_rows_become_records_of_the_task_kind(monkeypatch, name):
    hub_with(monkeypatch, PUBLISHED[name])
    task = find_task(name)
    data = open_data(name)
    assert (data.kind, data.name, data.metrics, data.positive) == (
        task.kind,
        name,
        task.metrics,
        task.positive,
    )
    assert all(metric in METRICS for metric in data.metrics)
    assert data.splits["train"] and (
        not task.rows or data.subset.startswith(f"subset of {name} (train 1 of ")
    )
    if task.positive == "true":
        assert set(data.labels) <= {"true", "false"}


def published(monkeypatch, name):
    hub_with(monkeypatch, PUBLISHED[name])
    return open_data(name, splits=("train",)).splits["train"]


def test_superglue_templates_are_those_of_ptuning_v2(monkeypatch):
    copa = published(monkeypatch, "superglue/copa")[0]
    assert (copa.text, copa.choices, copa.label) == ("a. so", ("b", "c"), 1)
    boolq = published(monkeypatch, "superglue/boolq")[0]
    assert (boolq.text, boolq.pair, boolq.label) == ("a", "b", "true")
    multirc = published(monkeypatch, "superglue/multirc")[0]
    assert (multirc.text, multirc.pair, multirc.label, multirc.group) == ("p", "q? r", "false", "1-2")
    record = published(monkeypatch, "superglue/record")
    assert [(r.text, r.pair, r.label, r.group) for r in record] == [
        ("p\n- h", "Ann won", "false", "4-5"),
        ("p\n- h", "Bob won", "true", "4-5"),
    ]
    assert record[0].extra["answers"] == ["Bob"] and record[0].extra["entity"] == "Ann"
    wic = published(monkeypatch, "superglue/wic")[0]
    assert (wic.text, wic.pair) == ("bank: The bank paid.", "bank: On a river bank")
    assert wic.text[slice(*wic.extra["span1"])] == wic.pair[slice(*wic.extra["span2"])] == "bank"
    asked = published(monkeypatch, "superglue/wic_question")[0]
    assert (
        asked.text == "The bank paid. On a river bank Does bank have the same meaning in both sentences?"
        and asked.pair is None
    )
    assert asked.text[slice(*asked.extra["span1"])] == asked.text[slice(*asked.extra["span2"])] == "bank"
    wsc = published(monkeypatch, "superglue/wsc")[0]
    assert (wsc.text, wsc.pair) == ('she: Ann saw Eve. "She ran.', "Eve")
    assert [wsc.text[slice(*wsc.extra[name])] for name in ("span1", "span2")] == ["Eve", "She"]


def test_hub_tags_become_iob2_names(monkeypatch):
    assert published(monkeypatch, "ontonotes5")[0].tags == ("B-PERSON", "I-PERSON")
    assert published(monkeypatch, "conll04")[0].tags == ("O", "B-Loc", "I-Loc")


def test_a_row_that_is_not_the_benchmark_is_named_with_its_line(tmp_path):
    (tmp_path / "copa_mc").mkdir()
    good = {"text": "a", "question": "cause", "choices": ["b", "c"], "label": "0"}
    for bad in (
        {"text": "a", "label": "0"},
        {**good, "question": "why"},
        {**good, "label": []},
        {**good, "choices": "b"},
    ):
        (tmp_path / "copa_mc" / "train.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
        with pytest.raises(RequestError, match=r"train\.jsonl:2: "):
            open_data("copa", data_root=tmp_path)


def data_root(path):
    for name in ("sst2", "mine"):
        (path / name).mkdir()
        (path / name / "train.jsonl").write_text('{"text": "a", "label": "x"}\n')
    return path


def test_the_data_root_comes_before_the_hub_and_plain_folders_have_bare_names(tmp_path, monkeypatch):
    root = data_root(tmp_path)
    assert (
        present(find_task("sst2"), root) == root / "sst2"
        and present(find_task("rte"), root) is None
        and present(find_task("rte"), None) is None
    )
    monkeypatch.setitem(sys.modules, "datasets", None)
    data = open_data("sst2", data_root=root)
    assert data.name == "glue/sst2" and data.subset == "subset of glue/sst2 (train 1 of 67,349 rows)"
    assert open_data("mine", data_root=root).name == open_data("mine", data_root=str(root)).name == "mine"
    assert open_data(root / "mine") == open_data(str(root / "mine")) == read_data(root / "mine")
    with pytest.raises(RequestError, match=r"rte is not under the data root .* install"):
        open_data("glue/rte", data_root=root)
    with pytest.raises(RequestError, match="does not exist"):
        open_data("yours", data_root=root)
    with pytest.raises(RequestError, match="is not a folder"):
        open_data("mine", data_root=root / "absent")
    with pytest.raises(RequestError, match="is a benchmark"):
        open_data("sst2", data_root=root, kind="tag")
    with pytest.raises(RequestError):
        open_data("x" * 5000, data_root=root)


def test_a_benchmark_name_means_the_benchmark_wherever_it_is_asked(tmp_path, monkeypatch):
    root = data_root(tmp_path)
    monkeypatch.chdir(root)
    assert open_data("sst2", data_root=root).name == "glue/sst2"
    assert open_data("./sst2").metrics == ("accuracy", "macro_f1")


def test_a_full_copy_is_no_subset_and_a_limit_makes_it_one(tmp_path):
    root = data_root(tmp_path)
    task = Task(
        "own/task",
        "classify",
        ("accuracy",),
        single(),
        ("sst2",),
        rows={"train": 1},
        subsets={"sst2": "half of it"},
    )
    assert load(task, root).subset is None
    (root / "sst2" / "train.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    fuller = Task(
        "own/task",
        "classify",
        ("accuracy",),
        single(),
        ("sst2",),
        rows={"train": 2},
        subsets={"sst2": "half of it"},
    )
    assert load(fuller, root).subset is None
    assert (
        load(fuller, root, limit={"train": 1}).subset == "subset of own/task (train 1 of 2 rows): half of it"
    )


def test_a_task_of_a_third_party_is_registered_once_and_checked():
    task = Task("mine/test_task", "classify", ("accuracy",), single(), ("mine",), hub=Hub("me/mine"))
    assert register(task) is register(task) is find_task("mine/test_task") is find_task("test_task")
    with pytest.raises(RequestError, match="already"):
        register(Task("mine/test_task", "tag", ("f1",), single(), ("mine",)))
    with pytest.raises(RequestError, match="accurate"):
        Task("mine/other", "classify", ("accurate",), single(), ("mine",))


def test_a_request_in_published_fields_goes_through_the_template_and_others_stay_as_they_are() -> None:
    copa = {"text": "It rained.", "question": "effect", "choices": ["wet", "dry"]}
    assert inputs_of("superglue/copa", copa) == {"text": "It rained. so", "choices": ["wet", "dry"]}
    assert inputs_of("glue/qqp", {"question1": "a?", "question2": "b?"}) == {"text": "a?", "text_pair": "b?"}
    assert inputs_of("conll2003", {"tokens": ["Bonn"], "id": 3}) == {"tokens": ["Bonn"], "id": 3}
    assert inputs_of("my own set", {"text": "a", "id": 3}) == {"text": "a", "id": 3}
    with pytest.raises(RequestError, match="glue/sst2"):
        inputs_of("glue/sst2", {"review": "good"})
