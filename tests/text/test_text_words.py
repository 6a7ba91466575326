"""Words and their tokens: offsets, splitting, words that come to nothing."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.text.tokenizer_cases import (
    STYLES,
    assert_same,
    ours,
    plain_words,
    quick,
    stored,
    texts,
    theirs,
    theirs_for_words,
)


@pytest.mark.parametrize("style", STYLES)
@quick
@given(text=texts)
def test_offsets_are_python_indices_in_order_inside_the_text(style, text):
    mine = ours(style).encode(text)
    inner = mine.offset[1:-1]
    assert mine.offset[0] == mine.offset[-1] == (0, 0)
    assert all(0 <= first <= end <= len(text) for first, end in inner)
    assert list(inner) == sorted(inner, key=lambda span: span[0])


def test_offsets_count_characters_and_not_bytes_or_utf16_units():
    text = "😀 中 كتاب dog"
    for style in STYLES:
        first, end = ours(style).encode(text).offset[-2]
        assert text[first:end].endswith("g")


@pytest.mark.parametrize("style", STYLES)
@quick
@given(words=st.lists(plain_words, min_size=1, max_size=8), limit=st.integers(3, 24))
def test_words_equal_those_of_transformers(style, words, limit):
    mine = ours(style).encode_words(words, limit)
    if style != "split-bytes":  # transformers has no option that gives this one its spaces
        reference = theirs_for_words(style)(
            words,
            is_split_into_words=True,
            truncation=True,
            max_length=limit,
            return_token_type_ids=True,
            return_special_tokens_mask=True,
        )
        assert_same(mine, reference)
        assert mine.word_of == tuple(-1 if word is None else word for word in reference.word_ids())
    assert [mine.word_of[i] for i in mine.example.word] == list(range(len(words) - mine.dropped_words))
    assert all(mine.word_of[i - 1] != mine.word_of[i] for i in mine.example.word)
    for word, (first, end) in zip(mine.word_of, mine.offset, strict=True):
        assert (first, end) == (0, 0) if word < 0 else 0 <= first <= end <= len(words[word])


@pytest.mark.parametrize("style", ["roberta", "modernbert", "split-bytes"])
def test_byte_level_words_get_the_tokens_of_running_text(style):
    words = ["the", "quick", "fox", "isn't"]
    running = ours(style).encode(" " + " ".join(words))
    assert ours(style).encode_words(words).example.token == running.example.token


@pytest.mark.parametrize("style", STYLES)
@quick
@given(words=st.lists(texts, max_size=8))
def test_no_word_is_lost_and_none_moves_another(style, words):
    mine = ours(style).encode_words(words)
    assert len(mine.example.word) == len(words)
    assert mine.dropped == mine.dropped_words == 0
    alone = [ours(style).encode_words([word]).example.token[1:-1] for word in words]
    assert mine.example.token[1:-1] == tuple(token for each in alone for token in each)


def test_a_word_that_comes_to_nothing_is_the_unknown_token():
    mine = ours("bert").encode_words(["hello", "\u200b", "dog"])
    unknown = theirs("bert").convert_tokens_to_ids("[UNK]")
    assert mine.example.token[mine.example.word[1]] == unknown
    assert mine.offset[mine.example.word[1]] == (0, 1)


def test_truncated_words_are_counted():
    mine = ours("bert").encode_words(["hello"] * 10, limit=2 + 3)
    tokens = len(ours("bert").encode_words(["hello"]).example.token) - 2
    assert mine.dropped == 10 * tokens - 3
    assert mine.dropped_words == 10 - len(mine.example.word) == 10 - -(-3 // tokens)


@pytest.mark.parametrize("style", STYLES)
@quick
@given(text=texts)
def test_split_words_are_in_order_without_white_space_and_cover_all_that_counts(style, text):
    spans = ours(style).split_words(text)
    assert all(first < end and not any(map(str.isspace, text[first:end])) for first, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    normalizer = Tokenizer.from_str(stored(style)).normalizer
    covered = {i for first, end in spans for i in range(first, end)}
    for i in set(range(len(text))) - covered:
        assert text[i].isspace() or (normalizer is not None and not normalizer.normalize_str(text[i]).strip())


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("bert", ["Don", "'", "t", "go", "to", "中", "文", ",", "😀", "!"]),
        ("roberta", ["Don", "'", "t", "go", "to", "中文", ",", "😀", "!"]),
        ("deberta", ["Don", "'", "t", "go", "to", "中文", ",", "😀", "!"]),
        ("xlmr", ["Don", "'", "t", "go", "to", "中文", ",", "😀", "!"]),
    ],
)
def test_units_are_those_of_the_pre_tokenizer_cut_at_each_punctuation_mark(style, expected):
    text = "Don't  go to\t中文, 😀! "
    assert [text[first:end] for first, end in ours(style).split_words(text)] == expected
