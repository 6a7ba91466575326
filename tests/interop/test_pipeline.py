"""Pipelines: an adapter answers as transformers' own pipeline does, in numbers where the weights are
the same, in shape everywhere.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pandas
import pytest
import torch
import transformers

import softcue
from softcue.adapter import Adapter
from softcue.answering.predict import Predictor
from softcue.errors import RequestError
from softcue.interop.pipeline import AdapterPipeline
from tests.answering.test_predict import LABELS, random_adapter
from tests.tiny_base import base_folder, tiny_base

TEXTS = ["the apple and a very quiet owl", "gold on tin", "alice was in paris"]
PAIR = {"text": "gold", "text_pair": "iron on tin but not lead"}
TAGGED = "Alice was in paris, with bob."
STRATEGIES = ("none", "simple", "first", "average", "max")


@cache
def pooled(kind: str, pair: bool = False) -> Adapter:
    """An adapter whose head is all that it has, on what transformers' heads stand on."""
    pooling = "pooler" if kind == "classify" else "cls"
    return random_adapter(tiny_base(), "probe", kind, pair, seed=3, pooling=pooling)


@cache
def theirs(kind: str, pair: bool = False) -> Any:
    """transformers' pipeline with the same encoder, the same head and the same tokenizer."""
    adapter = pooled(kind, pair)
    task, cls = {
        "classify": ("text-classification", transformers.BertForSequenceClassification),
        "tag": ("token-classification", transformers.BertForTokenClassification),
    }[kind]
    model = cls.from_pretrained(base_folder(), num_labels=len(adapter.labels))
    model.config.id2label = dict(enumerate(adapter.labels))
    with torch.no_grad():
        model.classifier.weight.copy_(adapter.head["weight"])
        model.classifier.bias.copy_(adapter.head["bias"])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(base_folder() / "tokenizer.json"),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    return transformers.pipeline(task, model=model.eval(), tokenizer=tokenizer, device="cpu")


@cache
def ours(kind: str, pair: bool = False) -> AdapterPipeline:
    return softcue.pipeline(pooled(kind, pair), backbone=tiny_base())


def same(one: Any, other: Any) -> bool:
    """Equal in shape, keys and texts; numbers to float32's precision."""
    if isinstance(one, Mapping):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return other == pytest.approx(one, abs=1e-5)
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("how", [{}, {"top_k": 1}, {"top_k": 2}, {"top_k": None}, {"top_k": 99}])
@pytest.mark.parametrize("inputs", [TEXTS[0], TEXTS, [TEXTS[1]], {"text": TEXTS[0]}])
def test_labels_equal_those_of_transformers(inputs: Any, how: dict[str, Any]) -> None:
    assert same(ours("classify")(inputs, **how), theirs("classify")(inputs, **how))


@pytest.mark.parametrize("inputs", [PAIR, [PAIR, {"text": "it", "text_pair": "an owl"}]])
def test_pairs_equal_those_of_transformers(inputs: Any) -> None:
    for how in ({}, {"top_k": None}):
        assert same(ours("classify", True)(inputs, **how), theirs("classify", True)(inputs, **how))


def test_what_is_said_when_it_is_made_stands_and_has_transformers_shape() -> None:
    own = softcue.pipeline(pooled("classify"), backbone=tiny_base(), top_k=2)
    model = theirs("classify")
    other = transformers.pipeline(
        "text-classification", model=model.model, tokenizer=model.tokenizer, top_k=2
    )
    for inputs in (TEXTS[0], TEXTS):
        assert same(own(inputs), other(inputs))
    assert same(own(TEXTS[0], top_k=1), other(TEXTS[0], top_k=1))


def test_without_a_function_scores_are_logits_but_for_a_constant() -> None:
    own = ours("classify")(TEXTS[0], top_k=None, function_to_apply="none")
    other = theirs("classify")(TEXTS[0], top_k=None, function_to_apply="none")
    assert [one["label"] for one in own] == [one["label"] for one in other]
    gaps = [a["score"] - b["score"] for a, b in zip(own, other, strict=True)]
    assert gaps == pytest.approx([gaps[0]] * len(gaps), abs=1e-4)


def keys_of(words: list[dict[str, Any]]) -> set[tuple[tuple[str, type], ...]]:
    return {tuple((key, type(value)) for key, value in word.items()) for word in words}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_tags_have_transformers_shape(strategy: str) -> None:
    pipe = AdapterPipeline(ours("tag").predictor, ours("tag").name, aggregation_strategy=strategy)
    found = theirs("tag")(TAGGED, aggregation_strategy=strategy)
    own = pipe(TAGGED)
    assert own and found
    assert keys_of(own) <= keys_of([{**word, "score": float(word["score"])} for word in found])
    assert all(TAGGED[word["start"] : word["end"]] == word["word"] for word in own)
    assert pipe([TAGGED, "alice"])[0] == own
    assert ours("tag")(TAGGED, aggregation_strategy=strategy) == own


def test_words_count_from_one_and_begin_as_the_entity_does() -> None:
    words = ours("tag")(TAGGED)
    assert all(TAGGED.split()[word["index"] - 1].startswith(word["word"]) for word in words)
    assert {word["entity"].split("-")[0] for word in words} <= {"B", "I"}
    kinds = {word["entity"] for word in words}
    left = ours("tag")(TAGGED, ignore_labels=sorted(kinds)[:1])
    assert {word["entity"] for word in left} == kinds - {sorted(kinds)[0]}


def test_scores_and_choices_have_the_same_shape_as_labels() -> None:
    base = tiny_base()
    predictor = Predictor(base, {kind: random_adapter(base, "pasta", kind) for kind in ("score", "choice")})
    [value] = AdapterPipeline(predictor, "score")("apple pear")
    assert set(value) == {"label", "score"}
    asked = {"text": "it is", "choices": ["fig", "gold on tin"]}
    best = AdapterPipeline(predictor, "choice")(asked)
    assert best["label"] in asked["choices"]
    assert len(AdapterPipeline(predictor, "choice")([asked], top_k=None)[0]) == 2


def test_columns_that_the_adapter_remembers_are_read_and_shown_as_its_inputs_are() -> None:
    base = tiny_base()
    tagger = random_adapter(base, "pasta", "tag", columns={"text": "subject"})
    chooser = random_adapter(base, "pasta", "choice", columns={"choices": "options"})
    predictor = Predictor(base, {"tag": tagger, "choice": chooser})
    tag, choice = AdapterPipeline(predictor, "tag"), AdapterPipeline(predictor, "choice")
    assert tag({"subject": TAGGED}) == tag(TAGGED)
    assert choice({"text": "it is", "options": ["fig", "tin"]})["label"] in ("fig", "tin")


def test_a_table_is_answered_by_its_rows() -> None:
    assert ours("classify")(pandas.DataFrame({"text": TEXTS})) == ours("classify")([*map(as_object, TEXTS)])


def as_object(text: str) -> dict[str, str]:
    return {"text": text}


def test_one_predictor_has_a_pipeline_for_each_of_its_adapters() -> None:
    backwards = replace(pooled("classify"), labels=LABELS["classify"][::-1])
    predictor = Predictor(tiny_base(), {"one": pooled("classify"), "other": backwards})
    one, other = (AdapterPipeline(predictor, name)(TEXTS[0], top_k=None) for name in ("one", "other"))
    turned = dict(zip(LABELS["classify"], backwards.labels, strict=True))
    assert [word["label"] for word in other] == [turned[word["label"]] for word in one]
    assert [word["score"] for word in other] == pytest.approx([word["score"] for word in one])


@pytest.mark.parametrize(
    ("inputs", "how", "told"),
    [
        (TEXTS[0], {"top_k": 0}, "top_k 0 came; expected 1"),
        (TEXTS[0], {"aggregation_strategy": "most"}, "expected one of none, simple"),
        (TEXTS[0], {"function_to_apply": "relu"}, "expected one of softmax"),
        (TEXTS[0], {"function_to_apply": "sigmoid"}, "exclude each other"),
        ([1], {}, "1 came as a text"),
        (7, {}, "7 came as texts"),
        (b"text", {}, "came as texts"),
        (TEXTS[0], {"ignore_labels": "PER"}, "ignore_labels is a str"),
        ("", {}, "a text that is not empty"),
    ],
)
def test_what_is_wrong_is_told_on_one_line(inputs: Any, how: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        ours("classify")(inputs, **how)
    assert "\n" not in str(caught.value)


def test_an_adapter_that_is_not_there_is_named() -> None:
    for name in ("absent", ["absent"]):
        with pytest.raises(RequestError, match=r"'absent'\]? is not there"):
            AdapterPipeline(ours("classify").predictor, name)
