"""Tiny tokenizers in the style of each family, as we and as transformers read them, and texts
that are hard to read.
"""

import json
from functools import cache

from hypothesis import settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from softcue.text.tokens import Text

CORPUS = [
    "hello world it's a fine day, isn't it?",
    "the quick brown fox jumps over the lazy dog",
    "naïve café 中文 الكتاب 😀 [x]",
] * 3
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
    letters,
    st.sampled_from(["[SEP]", "</s>", "[CLS]", "<mask>", "hello", " world"]),
    st.characters(exclude_categories=["Cs"]),
)
texts = st.lists(pieces, max_size=24).map("".join)
plain_words = st.text(st.sampled_from("abehlo',.é中ك😀"), min_size=1, max_size=8)
quick = settings(max_examples=40, deadline=None)


def bert_template(pair: str = "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1") -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )


def byte_level(
    first: pre_tokenizers.PreTokenizer, processor: processors.PostProcessor, names: list[str]
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = first
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=330, special_tokens=names, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer.post_processor = processor
    return tokenizer


def unigram(
    normalizer: normalizers.Normalizer, first: pre_tokenizers.PreTokenizer, names: list[str], unknown: str
) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = first
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(vocab_size=120, special_tokens=names, unk_token=unknown, show_progress=False),
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
        processor = processors.RobertaProcessing(
            ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=spaced
        )
        tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=spaced), processor, ROBERTA_NAMES)
    elif style == "modernbert":
        processor = processors.Sequence(
            [processors.ByteLevel(), bert_template("[CLS]:0 $A:0 [SEP]:0 $B:0 [SEP]:0")]
        )
        tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), processor, BERT_NAMES)
        tokenizer.normalizer = normalizers.NFC()
    elif style == "split-bytes":
        first = pre_tokenizers.Split(Regex(r" ?\w+|'\w+| ?[^\s\w]+|\s+"), "isolated")
        steps = pre_tokenizers.Sequence(
            [first, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
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
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)), model_max_length=512
    )


def assert_same(mine, reference) -> None:
    assert list(mine.example.token) == reference["input_ids"]
    assert list(mine.example.segment) == reference["token_type_ids"]
    assert list(mine.example.special) == [
        i for i, inserted in enumerate(reference["special_tokens_mask"]) if inserted
    ]
    assert len(mine.offset) == len(mine.example.token)
