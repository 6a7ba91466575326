"""Answers: what a request must hold for each kind, and what logits become; entities give back
exactly the text's own characters.
"""

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from softcue.answering.answers import Question, ask, say
from softcue.errors import RequestError
from softcue.kinds.entities import spans
from softcue.readers.items import Reading
from softcue.text.tokens import Text
from tests.text.tokenizer_cases import STYLES, ours, texts
from tests.tiny_base import tiny_base

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
LABELS = {"classify": ("no", "yes", "maybe"), "tag": TAGS}


@cache
def text() -> Text:
    return tiny_base().text


def reading(kind: str, **changes: Any) -> Reading:
    return Reading(kind, LABELS.get(kind, ()), 64, **changes)


def asked(kind: str, request: dict[str, Any], pair: bool = False, **changes: Any) -> Question:
    return ask(request, reading(kind, **changes), pair, text())


def one_hot(tags: list[str], labels: tuple[str, ...] = TAGS) -> Tensor:
    """(words, C) probabilities that decide for these tags, with 0.6 each."""
    answer = torch.full((len(tags), len(labels)), 0.4 / (len(labels) - 1))
    for row, tag in enumerate(tags):
        answer[row, labels.index(tag)] = 0.6
    return answer


REFUSED = [
    ("classify", False, {}, "gives no input; expected text"),
    ("classify", False, {"text": None}, "gives no input; expected text"),
    ("classify", False, {"text": ""}, "text is ''; expected a text that is not empty"),
    ("classify", False, {"text": " \t\n"}, "expected a text that is not empty"),
    ("classify", False, {"text": 3}, "text is 3; expected a text"),
    ("classify", False, {"text": ["a"]}, "text is ['a']; expected a text"),
    ("classify", False, {"text": b"a"}, "text is b'a'; expected a text"),
    ("classify", False, {"text": "a", "text_pair": "b"}, "gives text, text_pair; expected text"),
    ("classify", False, {"text": "a", "choices": ["b", "c"]}, "gives text, choices; expected text"),
    ("classify", False, {"tokens": ["a"]}, "gives tokens; expected text"),
    ("classify", False, {"text": "a\ud800"}, "half a character"),
    ("classify", True, {"text": "a"}, "gives text; expected text and text_pair"),
    ("classify", True, {"text_pair": "a"}, "gives text_pair; expected text and text_pair"),
    (
        "classify",
        True,
        {"text": "a", "text_pair": " "},
        "text_pair is ' '; expected a text that is not empty",
    ),
    ("score", True, {"text": "a", "text_pair": 1.5}, "text_pair is 1.5; expected a text"),
    ("choice", False, {"text": "a"}, "gives text; expected text and choices"),
    ("choice", False, {"choices": ["a", "b"]}, "gives choices; expected text and choices"),
    ("choice", False, {"text": "a", "choices": []}, "expected a list of texts, none of them empty"),
    ("choice", False, {"text": "a", "choices": ["b", ""]}, "expected a list of texts, none of them empty"),
    ("choice", False, {"text": "a", "choices": ["b", "  "]}, "expected a list of texts, none of them empty"),
    ("choice", False, {"text": "a", "choices": "bc"}, "choices is 'bc'; expected a list"),
    ("choice", False, {"text": "a", "choices": ["b", 1]}, "expected a list of texts"),
    ("tag", False, {}, "gives no input; expected text"),
    ("tag", False, {"text": "a", "tokens": ["a"]}, "gives text, tokens; expected tokens"),
    ("tag", False, {"tokens": []}, "tokens is []; expected a list"),
    ("tag", False, {"tokens": ["a", " "]}, "expected a list of texts, none of them empty"),
    ("tag", False, {"tokens": ["a", "\ud83d"]}, "half a character"),
    ("tag", False, {"tokens": {"a": 1}}, "expected a list of texts"),
    ("tag", False, {"text": "a", "text_pair": "b"}, "gives text, text_pair; expected text"),
    ("tag", False, {"text": "\u200b\u00ad"}, "in which the tokenizer finds no word"),
    ("tag", False, {"text": "a\ud800"}, "half a character"),
]


@pytest.mark.parametrize(
    ("kind", "pair", "request_", "told"), REFUSED, ids=[f"{k}-{r!r:.40}" for k, _, r, _ in REFUSED]
)
def test_a_request_that_does_not_fit_is_refused_in_one_short_line(
    kind: str, pair: bool, request_: dict[str, Any], told: str
) -> None:
    with pytest.raises(RequestError) as caught:
        asked(kind, request_, pair)
    message = str(caught.value)
    assert told in message
    assert "\n" not in message
    assert len(message) < 300
    message.encode()  # no lone surrogates in what is printed


def test_a_huge_wrong_value_is_cut_in_the_message() -> None:
    with pytest.raises(RequestError) as caught:
        asked("classify", {"text": ["x" * 10_000_000]})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("kind", "pair", "request_"),
    [
        ("classify", False, {"text": "apple"}),
        ("classify", True, {"text": "apple", "text_pair": "pear"}),
        ("score", False, {"text": "apple"}),
        ("choice", False, {"text": "apple", "choices": ("pear", "plum")}),
        ("tag", False, {"text": "alice met bob"}),
        ("tag", False, {"tokens": ("alice", "met")}),
    ],
)
def test_what_a_kind_does_not_read_is_ignored_so_that_labelled_data_can_be_predicted(
    kind: str, pair: bool, request_: Any
) -> None:
    more: dict[str, Any] = {
        "label": "x",
        "id": 7,
        "where": "f:1",
        "adapter": "a",
        "tags": [],
        "choices" if kind != "choice" else "tokens": None,
    }
    assert asked(kind, {**request_, **more}, pair).item == asked(kind, request_, pair).item


def test_choices_become_one_example_each_in_the_order_given() -> None:
    question = asked("choice", {"text": "is it", "choices": ["gold", "owl", "fig"]})
    whole = text().encode_many([("is it", "gold"), ("is it", "owl"), ("is it", "fig")])
    assert question.item.examples == tuple(encoded.example for encoded in whole)


def test_a_label_is_the_likeliest_of_the_adapters_own_however_wide_the_head() -> None:
    # a seat of a head with more classes than the adapter has
    answer = torch.tensor([0.2, 0.5, 0.3, 0.9, 0.9])
    said = say(answer, asked("classify", {"text": "a"}))
    assert said["label"] == "yes"
    assert said["score"] == pytest.approx(0.5)
    assert said["scores"] == pytest.approx({"no": 0.2, "yes": 0.5, "maybe": 0.3})


def test_a_value_is_on_the_scale_of_the_training_labels() -> None:
    assert say(torch.tensor(-1.5), asked("score", {"text": "a"}, centre=3.0, spread=0.5)) == {"value": 2.25}


def test_a_choice_is_the_index_of_the_likeliest() -> None:
    said = say(torch.tensor([0.1, 0.2, 0.7]), asked("choice", {"text": "a", "choices": ["b", "c", "d"]}))
    assert said["choice"] == 2
    assert said["scores"] == pytest.approx([0.1, 0.2, 0.7])


def test_entities_have_the_keys_of_the_token_classification_pipeline_and_the_mean_score_of_their_words() -> (
    None
):
    question = asked("tag", {"text": "alice bob met in paris"})
    answer = one_hot(["B-PER", "I-PER", "O", "O", "B-LOC"])
    answer[1, 2] = 0.8
    assert say(answer, question) == {
        "entities": [
            {"entity_group": "PER", "score": pytest.approx(0.7), "word": "alice bob", "start": 0, "end": 9},
            {"entity_group": "LOC", "score": pytest.approx(0.6), "word": "paris", "start": 17, "end": 22},
        ]
    }


def test_neighbouring_entities_stay_two_and_an_orphan_begins_one() -> None:
    question = asked("tag", {"tokens": ["alice", "bob", "in", "rome"]})
    said = say(one_hot(["B-PER", "B-PER", "O", "I-LOC"]), question)
    assert [entity["word"] for entity in said["entities"]] == ["alice", "bob", "rome"]
    assert said["tags"] == ["B-PER", "B-PER", "O", "B-LOC"]


def test_given_tokens_stand_in_their_text_with_one_space_between() -> None:
    tokens = ["Anna-Maria", "né", "e", "😀😀", "Öz"]
    said = say(one_hot(["B-PER", "I-PER", "O", "B-LOC", "B-PER"]), asked("tag", {"tokens": tokens}))
    joined = " ".join(tokens)
    assert [joined[e["start"] : e["end"]] for e in said["entities"]] == ["Anna-Maria né", "😀😀", "Öz"]
    assert len(said["tags"]) == len(tokens)


@pytest.mark.parametrize("style", STYLES)
@given(sentence=texts, seed=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_every_predicted_span_gives_back_exactly_the_text_slice_by_character_offsets(
    style: str, sentence: str, seed: int
) -> None:
    try:
        question = ask({"text": sentence}, Reading("tag", TAGS, 512), False, ours(style))
    except RequestError:
        assert not ours(style).split_words(sentence)
        return
    words = len(question.record.tokens)
    assert len(question.offset) == words == sum(len(e.word) for e in question.item.examples) > 0, (
        "an answer for each word"
    )
    answer = torch.rand(words, len(TAGS), generator=torch.Generator().manual_seed(seed)).softmax(-1)
    said = say(answer, question)
    done = 0
    for entity in said["entities"]:
        first, end = entity["start"], entity["end"]
        assert done <= first < end <= len(sentence), "in order, not empty, without overlap"
        assert entity["word"] == sentence[first:end] == sentence[first:end].strip()
        done = end
    if all(before[1] < after[0] for before, after in pairwise(question.offset)):  # each unit is a word
        chosen = [TAGS[i] for i in answer.argmax(-1).tolist()]
        assert [e["entity_group"] for e in said["entities"]] == [kind for kind, _, _ in spans(chosen)]


@pytest.mark.parametrize(
    ("sentence", "tags", "found"),
    [
        # E - 4012: the first unit answers for the word
        ("error E-4012 since", ["O", "B-LOC", "O", "O", "O"], ["E-4012"]),
        ("version 3.2, please", ["O", "B-LOC", "I-LOC", "I-LOC", "O", "O"], ["3.2"]),  # 3 . 2 ,
        ("in Paris.", ["O", "B-LOC", "O"], ["Paris"]),
        ("the U.S.", ["O", "B-LOC", "I-LOC", "I-LOC", "I-LOC"], ["U.S."]),
        ('met "Ann"', ["O", "O", "B-PER", "O"], ["Ann"]),
        ("(Rome) Bonn", ["O", "B-LOC", "O", "B-LOC"], ["Rome", "Bonn"]),
        # split already: the comma stands alone
        ("Wash. , Rome.", ["B-LOC", "O", "O", "B-LOC", "O"], ["Wash.", "Rome."]),
        ("Rome. Qui ?", ["B-LOC", "O", "O", "O"], ["Rome"]),  # as the French write
    ],
)
def test_a_word_of_raw_text_is_what_stands_together_less_the_marks_that_are_tagged_outside(
    sentence, tags, found
) -> None:
    question = ask({"text": sentence}, Reading("tag", TAGS, 64), False, ours("bert"))
    assert [entity["word"] for entity in say(one_hot(tags), question)["entities"]] == found


@pytest.mark.parametrize("style", STYLES)
def test_right_to_left_words_and_emoji_come_back_whole(style: str) -> None:
    sentence = "التقى محمد في cafe\u0301 👩\u200d👧 ok"
    question = ask({"text": sentence}, Reading("tag", TAGS, 512), False, ours(style))
    found = [
        entity["word"] for entity in say(one_hot(["B-PER"] * len(question.offset)), question)["entities"]
    ]
    assert {"التقى", "محمد", "في", "ok"} <= set(found)
    rest = "".join(found)
    assert all(mark in rest for mark in ("e\u0301", "👩", "👧")), (
        "a mark may be a word of its own, but is not lost"
    )
