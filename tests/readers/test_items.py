"""Records to items: targets, windows of long tagged texts, and what truncation leaves."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softcue.errors import RequestError
from softcue.kinds.record import IGNORED
from softcue.readers.items import Item, Reading, make_items
from softcue.readers.records import Record
from tests.tiny_base import FILLER, PEOPLE, WORDS, tags_of, tiny_base, tiny_data

TAGS = ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")
LONG = "q" * 80  # one word of 80 tokens
word_lists = st.lists(
    st.sampled_from([*FILLER[:8], *PEOPLE, "qq", "zzzzzz", LONG, "\u200b", "😀"]), min_size=1, max_size=60
)


def tagged(words: Sequence[str], limit: int) -> Item:
    record = Record(tokens=tuple(words), tags=tags_of(list(words)))
    return make_items([record], tiny_base().text, Reading("tag", TAGS, limit))[0]


def read_back(item: Item) -> list[list[str]]:
    """For each window, the first token of each of its words, in letters."""
    return [
        [WORDS[encoded.example.token[place]] for place in encoded.example.word] for encoded in item.encoded
    ]


def first_tokens(words: Sequence[str]) -> list[str]:
    return [WORDS[tiny_base().text.encode_words([word], 512).example.token[1]] for word in words]


@given(words=word_lists, limit=st.integers(3, 32))
@settings(max_examples=60, deadline=None)
def test_every_word_is_answered_once_and_by_itself(words: list[str], limit: int) -> None:
    item = tagged(words, limit)
    flat = [token for window in read_back(item) for token in window]
    keep = range(len(flat)) if item.answering is None else item.answering
    assert len(set(keep)) == len(keep) == len(words)
    assert [flat[place] for place in keep] == first_tokens(words)


@given(words=word_lists, limit=st.integers(3, 32))
@settings(max_examples=60, deadline=None)
def test_every_word_is_learnt_once_where_it_is_answered(words: list[str], limit: int) -> None:
    item = tagged(words, limit)
    flat = [target for targets in item.targets for target in targets]
    keep = list(range(len(flat)) if item.answering is None else item.answering)
    assert [TAGS[flat[place]] for place in keep] == list(tags_of(words))
    assert all(target == IGNORED for place, target in enumerate(flat) if place not in set(keep))


@given(words=word_lists, limit=st.integers(3, 32))
@settings(max_examples=60, deadline=None)
def test_no_window_is_longer_than_the_limit_and_targets_go_with_words(words: list[str], limit: int) -> None:
    item = tagged(words, limit)
    assert all(len(example.token) <= limit for example in item.examples)
    assert [len(example.word) for example in item.examples] == [len(targets) for targets in item.targets]


def test_a_long_text_is_answered_by_the_windows_with_most_context() -> None:
    """500 words of one token each, 30 in a window: each word has as many neighbours as any
    window gives it.
    """
    words = [FILLER[i % 20] if i % 7 else PEOPLE[i % 4] for i in range(500)]
    item = tagged(words, 32)
    assert item.answering is not None
    starts: list[int] = []
    for example in item.examples:  # find each window by its place: steps are known from the overlap
        starts.append(starts[-1] + 23 if starts else 0)
        assert read_back(item)[len(starts) - 1] == words[starts[-1] : starts[-1] + len(example.word)]
    ends = [start + len(example.word) for start, example in zip(starts, item.examples, strict=True)]
    assert ends[-1] == 500
    offsets = [sum(len(e.word) for e in item.examples[:w]) for w in range(len(starts))]
    for word, place in enumerate(item.answering):
        window = max(w for w in range(len(starts)) if offsets[w] <= place)

        def context(w: int, word: int = word) -> int:
            left = 500 if starts[w] == 0 else word - starts[w]
            right = 500 if ends[w] == 500 else ends[w] - 1 - word
            return min(left, right)

        assert context(window) == max(context(w) for w in range(len(starts)) if starts[w] <= word < ends[w])


def test_windows_lose_nothing_and_say_so() -> None:
    assert tagged(list(FILLER) * 5, 16).dropped == 0
    assert tagged([LONG], 16).dropped == 80 - 14


def test_a_word_longer_than_the_limit_still_has_an_answer() -> None:
    item = tagged(["alice", LONG, "bob"], 8)
    assert item.answering is not None and len(item.answering) == 3
    assert [TAGS[t] for targets in item.targets for t in targets if t != IGNORED] == ["B-PER", "O", "B-PER"]


def test_a_text_that_fits_is_one_window() -> None:
    item = tagged(list(FILLER), 22)
    assert (len(item.encoded), item.answering, item.rows) == (1, None, 22)


def test_a_tag_that_train_lacks_is_ignored() -> None:
    record = Record(tokens=("alice", "the"), tags=("B-GOD", "O"))
    assert make_items([record], tiny_base().text, Reading("tag", TAGS, 32))[0].targets == ([IGNORED, 0],)


def test_words_without_tags_can_be_asked() -> None:
    record = Record(tokens=tuple(FILLER) * 3)
    item = make_items([record], tiny_base().text, Reading("tag", TAGS, 32))[0]
    assert item.answering is not None and len(item.answering) == 60
    assert {t for targets in item.targets for t in targets} == {IGNORED}


def test_classes_are_numbered_by_the_labels_and_unknown_ones_ignored() -> None:
    rows = [
        Record(text="a", label="b"),
        Record(text="a", label="a"),
        Record(text="a", label="new"),
        Record(text="a"),
    ]
    items = make_items(rows, tiny_base().text, Reading("classify", ("a", "b"), 16))
    assert [item.targets for item in items] == [(1,), (0,), (IGNORED,), (IGNORED,)]


def test_scores_are_standardised() -> None:
    rows = [Record(text="a", label=3.0), Record(text="a", label=5.0), Record(text="a")]
    items = make_items(rows, tiny_base().text, Reading("score", (), 16, 4.0, 0.5))
    assert [item.targets for item in items] == [(-2.0,), (2.0,), (0.0,)]


def test_each_choice_is_an_example_of_its_own_with_the_text() -> None:
    record = Record(text="the owl", choices=("was iron", "is", "a fig of tin"), label=2)
    (item,) = make_items([record], tiny_base().text, Reading("choice", (), 16))
    assert item.targets == (0, 0, 1)
    pairs = [tiny_base().text.encode("the owl", choice, 16).example for choice in record.choices]
    assert list(item.examples) == pairs
    assert item.rows == sum(len(example.token) for example in pairs)


@pytest.mark.parametrize("kind", ["classify", "score", "choice", "tag"])
def test_items_come_in_the_order_of_the_records(kind: str) -> None:
    data = tiny_data(kind, train=12)
    reading = Reading(kind, data.labels, 32)
    together = make_items(data.splits["train"], tiny_base().text, reading)
    apart = [make_items([record], tiny_base().text, reading)[0] for record in data.splits["train"]]
    assert together == apart


def test_a_limit_below_the_special_tokens_is_refused() -> None:
    for kind, record in (
        ("classify", Record(text="a", label="a")),
        ("tag", Record(tokens=("a",), tags=("O",))),
    ):
        with pytest.raises(RequestError, match="too short"):
            make_items([record], tiny_base().text, Reading(kind, ("O", "a"), 1))
