"""The front door in Python: what train returns is what evaluate and predict find again, and odd
calls are refused.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from softcue import api, tasks
from softcue.adapter import Adapter
from softcue.cues import Cue
from softcue.errors import AdapterError, BackboneError, RequestError
from softcue.kinds import KINDS
from softcue.readers import Data
from softcue.readers.records import Record
from softcue.training.full import Checkpoint
from tests.answering.test_predict import random_adapter, same
from tests.tiny_base import base_folder, tiny_base, tiny_data

QUICK = {"epochs": 2, "rate": 1e-2}


def quick(data: Any, **changes: Any) -> Any:
    return api.train(data, **{"backbone": tiny_base(), "method": "bitfit", "settings": QUICK, **changes})


def row(record: Record) -> dict[str, Any]:
    """A record as a line of a file."""
    fields = {
        "text": record.text,
        "text_pair": record.pair,
        "choices": record.choices,
        "tokens": record.tokens,
    }
    labels = list(record.labels) if record.label is None and not record.tags else None  # [] is an answer too
    return {
        k: v
        for k, v in {**fields, "label": record.label, "labels": labels, "tags": record.tags}.items()
        if v is not None and v != ()
    }


def written(data: Data, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, records in data.splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row(record)) + "\n" for record in records))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_finds_the_scores_that_train_reported(kind: str, tmp_path: Path) -> None:
    folder = written(tiny_data(kind), tmp_path / "data")
    adapter = quick(folder)
    adapter.save(tmp_path / "adapter")
    result = api.evaluate(tmp_path / "adapter", folder, backbone=tiny_base())
    for metric, value in result.scores.items():
        assert value == pytest.approx(adapter.scores[metric], abs=1e-6)
    assert (result.rows, result.split, result.warnings) == (24, "test", ())
    assert json.loads(json.dumps(result.to_json(), allow_nan=False)) == result.to_json()


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_on_a_split_are_what_evaluate_scores(kind: str, tmp_path: Path) -> None:
    data = tiny_data(kind)
    adapter = quick(data)
    answers = api.predict(adapter, [row(record) for record in data.splits["test"]], backbone=tiny_base())
    accuracy = api.evaluate(adapter, data, backbone=tiny_base()).scores
    json.dumps(answers, allow_nan=False)
    if kind in ("classify", "choice"):
        key = "label" if kind == "classify" else "choice"
        right = [
            answer[key] == record.label for answer, record in zip(answers, data.splits["test"], strict=True)
        ]
        assert sum(right) / len(right) == pytest.approx(accuracy["accuracy"])
    elif kind == "multilabel":
        right = [
            set(answer["labels"]) == set(record.labels)
            for answer, record in zip(answers, data.splits["test"], strict=True)
        ]
        assert sum(right) / len(right) == pytest.approx(accuracy["exact_match"])
    elif kind == "score":
        gold = torch.tensor(
            [[float(str(r.label)) for r in data.splits["test"]], [answer["value"] for answer in answers]]
        )
        assert float(torch.corrcoef(gold)[0, 1]) == pytest.approx(accuracy["pearson"], abs=1e-4)
    else:
        assert all(len(a["tags"]) == len(r.tokens) for a, r in zip(answers, data.splits["test"], strict=True))


def test_a_single_file_is_split_for_evaluation_as_it_was_for_training(tmp_path: Path) -> None:
    """Else rows that were trained on would be reported."""
    file = tmp_path / "all.jsonl"
    records = tiny_data(train=200, dev=0, test=0).splits["train"]
    file.write_text("".join(json.dumps(row(record)) + "\n" for record in records))
    seen: list[str] = []
    adapter = quick(
        file, seed=3, report=lambda prepared, run: seen.extend(str(r.text) for r in prepared.selection.train)
    )
    kept: list[str] = []
    real = api.make_items

    def keep(records: Any, *rest: Any) -> Any:
        kept.extend(record.text for record in records)
        return real(records, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "make_items", keep)
        result = api.evaluate(adapter, file, backbone=tiny_base())
    own = {str(record.text) for record in records}
    duplicated = {text for text in own if sum(text == record.text for record in records) > 1}
    assert not (set(kept) & set(seen)) - duplicated
    assert result.scores["accuracy"] == pytest.approx(adapter.scores["accuracy"])


def test_the_same_seed_trains_the_same_adapter_and_another_does_not() -> None:
    first, again, other = (quick(tiny_data(), method="pasta", seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(first.cue[name], again.cue[name]) for name in first.cue)
    assert not all(torch.equal(first.cue[name], other.cue[name]) for name in first.cue)


def test_settings_go_to_the_method_and_to_training_by_name() -> None:
    adapter = quick(tiny_data(), method="prompt", settings={**QUICK, "length": 3, "batch": 7})
    assert adapter.config.length == 3
    assert (adapter.training["batch"], adapter.training["epochs"]) == (7, 2)
    with pytest.raises(
        RequestError, match="prompt has no setting lenght; its own settings are enter, length"
    ):
        quick(tiny_data(), method="prompt", settings={"lenght": 3})


def test_rows_caps_training_rows_alone(tmp_path: Path) -> None:
    counts: set[int] = set()
    adapter = quick(
        written(tiny_data(), tmp_path), rows=9, report=lambda prepared, run: counts.add(len(prepared.items))
    )
    assert counts == {9}
    assert api.evaluate(adapter, tmp_path, backbone=tiny_base()).rows == 24


def test_what_is_odd_about_the_data_is_said(tmp_path: Path) -> None:
    data = tiny_data()
    data.splits["test"][0] = replace(data.splits["test"][0], label="tree")
    said: list[str] = []
    quick(written(data, tmp_path), method="probe", settings={}, say=said.append)
    assert said == [
        "warning: test: 1 rows have labels that train lacks (tree); they are kept and counted as wrong"
    ]


@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_labels_that_the_adapter_does_not_know_are_said_by_evaluate(kind: str) -> None:
    data = tiny_data(kind)
    record = data.splits["test"][0]
    data.splits["test"][0] = (
        replace(record, label="tree")
        if kind == "classify"
        else replace(record, tags=("B-TREE",) * len(record.tokens))
    )
    adapter = random_adapter(tiny_base(), "bitfit", kind)
    (warning,) = api.evaluate(adapter, data, backbone=tiny_base()).warnings
    assert warning == (
        "1 rows have labels that the adapter does not know "
        f"({'tree' if kind == 'classify' else 'B-TREE'}); they are counted as wrong"
    )


def test_data_of_another_kind_or_form_than_the_adapters_are_refused() -> None:
    adapter = random_adapter(tiny_base(), "bitfit")
    with pytest.raises(RequestError, match="tiny-tag is of kind tag; the adapter answers classify"):
        api.evaluate(adapter, tiny_data("tag"), backbone=tiny_base())
    with pytest.raises(RequestError, match="has pairs of texts; the adapter was trained on single texts"):
        api.evaluate(adapter, tiny_data(pair=True), backbone=tiny_base())
    with pytest.raises(RequestError, match="has no dev split; it has test"):
        api.evaluate(adapter, replace(tiny_data(), splits={"test": []}), split="dev", backbone=tiny_base())


@pytest.mark.parametrize(
    "given", [{"rows": 3}, {"kind": "score"}, {"columns": {"text": "body"}}, {"root": "."}]
)
def test_what_has_no_effect_on_data_read_already_is_refused_and_not_ignored(given: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=f"{next(iter(given))} came with data that are read already"):
        quick(tiny_data(), **given)


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_a_seed_that_no_generator_takes_is_refused(seed: int) -> None:
    with pytest.raises(RequestError, match="expected 0 to"):
        quick(tiny_data(), seed=seed)


@pytest.mark.parametrize(("method", "name"), [("prompt", "length"), ("ptuning", "length"), ("lora", "rank")])
@pytest.mark.parametrize("value", [10**6, 10**12, 10**30])
def test_a_size_beyond_what_an_adapter_can_hold_is_refused_before_memory_is_asked_for(
    method: str, name: str, value: int
) -> None:
    with pytest.raises(RequestError, match=name):
        quick(tiny_data(), method=method, settings={name: value})


def test_an_unknown_method_is_answered_with_the_known_ones() -> None:
    known = ", ".join(sorted(Cue.registry))
    with pytest.raises(RequestError, match=f"'pastta' is unknown; expected one of {known}"):
        quick(tiny_data(), method="pastta")


def test_the_data_root_comes_from_the_environment_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(tasks.ROOT, raising=False)
    assert api.data_root(None) is None
    monkeypatch.setenv(tasks.ROOT, str(tmp_path))
    assert api.data_root(None) == tmp_path
    monkeypatch.setenv(tasks.ROOT, str(tmp_path / "gone"))
    with pytest.raises(RequestError, match=r"gone is not a folder \(the variable SOFTCUE_DATA names it\)"):
        api.data_root(None)
    assert api.data_root(tmp_path) == tmp_path, "what is given stands over the environment"


def test_an_adapter_brings_its_backbone_by_name_until_it_moves(tmp_path: Path) -> None:
    place = tmp_path / "encoder"
    place.symlink_to(base_folder())
    adapter: Any = api.train(
        tiny_data(), backbone=str(place), method="bitfit", settings=QUICK, precision="float32"
    )
    request = {"text": "the apple"}
    answer = api.predict(adapter, [request], precision="float32")
    place.rename(tmp_path / "moved")
    with pytest.raises(BackboneError, match=r"The adapter names that backbone; say .* where it is now"):
        api.predict(adapter, [request])
    same(api.predict(adapter, [request], backbone=str(tmp_path / "moved"), precision="float32"), answer)


def test_another_backbone_is_refused_with_what_differs() -> None:
    with pytest.raises(AdapterError, match="the weights or the tokenizer differ"):
        api.predict(random_adapter(tiny_base(), "apt"), [{"text": "a"}], backbone=str(base_folder("bert", 1)))


def test_full_fine_tuning_saves_a_folder_that_is_its_own_backbone(tmp_path: Path) -> None:
    data = tiny_data()
    trained = quick(data, method="full", settings={"epochs": 1})
    assert isinstance(trained, Checkpoint)
    folder = trained.save(tmp_path / "tuned")
    scores = api.evaluate(folder, data, precision="float32").scores
    assert scores["accuracy"] == pytest.approx(trained.scores["accuracy"])
    (answer,) = api.predict(folder, [{"text": "the apple"}], precision="float32")
    assert answer["label"] in data.labels
    with pytest.raises(RequestError, match="fine-tuned checkpoint; give the checkpoint's folder"):
        api.predict(Adapter.load(folder), [{"text": "the apple"}])
    with pytest.raises(AdapterError, match="head of a fine-tuned checkpoint"):
        api.predict(folder, [{"text": "the apple"}], backbone=str(base_folder()))


def test_questions_are_a_text_a_pair_or_a_file_with_its_lines(tmp_path: Path) -> None:
    assert api.questions("adapters/none", ["a"], None) == [{"text": "a"}]
    assert api.questions("adapters/none", ["a", "b"], None) == [{"text": "a", "text_pair": "b"}]
    file = tmp_path / "in.jsonl"
    file.write_text('{"text": "a"}\n\n{"text": "b", "label": 1}\n')
    assert api.questions("adapters/none", [], file, encoding="utf-8") == [
        {"text": "a", "where": "in.jsonl:1"},
        {"text": "b", "label": 1, "where": "in.jsonl:3"},
    ]
    file.write_text('{"text": "a"\n[1]\n')
    with pytest.raises(
        RequestError, match=r"2 problems.*\n  in.jsonl:1: broken JSON.*\n  in.jsonl:2: a JSON list"
    ):
        api.questions("adapters/none", [], file, encoding="utf-8")


@pytest.mark.parametrize(
    ("texts", "named", "told"),
    [([], False, "give a text"), (["a"], True, "give a text"), (["a"] * 3, False, "3 texts came")],
)
def test_a_question_is_either_typed_or_in_a_file(
    texts: list[str], named: bool, told: str, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=told):
        api.questions("adapters/none", texts, tmp_path / "in.jsonl" if named else None)


def test_a_tagger_is_scored_on_raw_text_too() -> None:
    """Words with marks inside are one token in the rows and several units in raw text; what was
    learnt must serve both.
    """
    data = tiny_data("tag")
    words = [
        [f"{word}-red" if tag == "B-PER" else word for word, tag in zip(r.tokens, r.tags, strict=True)]
        for r in data.splits["train"]
    ]
    rows = [
        replace(record, tokens=tuple(own)) for record, own in zip(data.splits["train"], words, strict=True)
    ]
    same = replace(data, splits=dict.fromkeys(data.splits, rows))
    adapter = quick(same, method="lora", settings={"epochs": 40, "rate": 2e-2})
    result = api.evaluate(adapter, same, backbone=tiny_base())
    assert result.scores["f1"] > 0.5
    assert result.raw_text["f1"] == pytest.approx(result.scores["f1"], abs=0.02)
    plain = api.evaluate(quick(tiny_data()), tiny_data(), backbone=tiny_base())
    assert plain.raw_text is None and "raw_text" not in plain.to_json()
