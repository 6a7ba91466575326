"""A tiny Base (random BERT and a tokenizer that knows a few words) and small data sets of every
kind that it can learn.
"""

import atexit
import random
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from softcue.base import Base, open_base
from softcue.readers.records import Data, Record
from softcue.scoring.metrics import metrics_of
from tests.tiny import TINY, VOCABULARY, tiny_folder

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FILLER = (
    "the",
    "a",
    "of",
    "to",
    "in",
    "on",
    "it",
    "was",
    "is",
    "and",
    "for",
    "with",
    "this",
    "that",
    "very",
    "quite",
    "then",
    "so",
    "but",
    "by",
)
FRUIT = ("apple", "pear", "plum", "fig", "lime", "peach")
METAL = ("iron", "gold", "zinc", "tin", "lead", "copper")
BIRD = ("owl", "crow", "hawk", "swan", "wren", "finch")
TOPICS = {"fruit": FRUIT, "metal": METAL, "bird": BIRD}
PEOPLE = ("alice", "bob", "carol", "dave")
PLACES = ("paris", "rome", "oslo", "kyiv")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
WORDS = (
    *SPECIAL,
    *FILLER,
    *FRUIT,
    *METAL,
    *BIRD,
    *PEOPLE,
    *PLACES,
    *LETTERS[1:],
    *(f"##{letter}" for letter in LETTERS),
)
assert len(WORDS) <= VOCABULARY


@cache
def tiny_base(family: str = "bert", seed: int = 0, precision: str = "float32") -> Base:
    """A base of the family, opened from a folder as a user's would be; it is the same object
    each time: do not change it.
    """
    with torch.inference_mode(False):  # whoever asks first: others train on it
        return open_base(str(base_folder(family, seed)), precision)


@cache
def base_folder(family: str = "bert", seed: int = 0) -> Path:
    """A checkpoint's folder with its tokenizer, which lives as long as the process."""
    assert family in TINY
    parent = Path(tempfile.mkdtemp(prefix="softcue-tiny-"))
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    folder = tiny_folder(family, parent, seed)
    tokenizer(doubled=family in ("roberta", "xlm-roberta", "camembert", "mpnet")).save(
        str(folder / "tokenizer.json")
    )
    return folder


def tokenizer(doubled: bool = False) -> Tokenizer:
    """WordPiece over WORDS, with BERT's template, or RoBERTa's (two separators between texts)."""
    made = Tokenizer(models.WordPiece({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pair = "[CLS]:0 $A:0 [SEP]:0 [SEP]:0 $B:0 [SEP]:0" if doubled else "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"
    special = [(name, SPECIAL.index(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair=pair, special_tokens=special
    )
    made.add_special_tokens(list(SPECIAL))
    return made


def tiny_data(
    kind: str = "classify", train: int = 60, dev: int = 24, test: int = 24, seed: int = 0, pair: bool = False
) -> Data:
    """A data set that a linear map can learn; `pair`: of two texts (all but choice and tag)."""
    chance = random.Random(f"{kind} {seed}")
    sizes = {"train": train, "dev": dev, "test": test}
    splits = {
        split: [_record(kind, chance, i, pair, f"{split}.jsonl:{i + 1}") for i in range(count)]
        for split, count in sizes.items()
    }
    topics = tuple(sorted(TOPICS))
    labels = {
        "classify": topics,
        "multilabel": topics,
        "tag": ("O", "B-LOC", "B-PER", "I-LOC", "I-PER"),
    }.get(kind, ())
    return Data(kind, splits, labels, pair, f"tiny-{kind}", metrics_of(kind))


def without(data: Data, *splits: str) -> Data:
    """The data set as if it had no such splits."""
    return replace(
        data, splits={name: records for name, records in data.splits.items() if name not in splits}
    )


def majority(data: Data, split: str = "test") -> float:
    """Share of the commonest label: what an adapter that has learnt nothing gets."""
    labels = [record.label for record in data.splits[split]]
    return max(labels.count(label) for label in labels) / len(labels)


def _record(kind: str, chance: random.Random, number: int, pair: bool, where: str) -> Record:
    topic = sorted(TOPICS)[number % len(TOPICS)]
    text = _text(chance, TOPICS[topic], 3)
    second: dict[str, Any] = {"pair": _text(chance, TOPICS[topic], 1)} if pair else {}
    if kind == "classify":
        return Record(text=text, label=topic, where=where, **second)
    if kind == "score":
        count = number % 5
        words = [*chance.sample(FRUIT, 4)[:count], *chance.sample(METAL, 4)[: 4 - count]]
        chance.shuffle(words)
        return Record(text=" ".join(words), label=float(count), where=where, **second)
    if kind == "multilabel":  # every set of topics in turn, none of them too
        named = tuple(one for place, one in enumerate(sorted(TOPICS)) if number >> place & 1)
        told = [word for one in named for word in chance.sample(TOPICS[one], 2)]
        words = [*chance.choices(FILLER, k=chance.randrange(1, 4)), *told]
        chance.shuffle(words)
        return Record(text=" ".join(words), labels=named, where=where, **second)
    if kind == "choice":
        right = chance.randrange(2 + number % 2)
        choices = tuple(_text(chance, FRUIT if i == right else METAL, 3) for i in range(2 + number % 2))
        return Record(text=_text(chance, (), 0), choices=choices, label=right, where=where)
    words = [chance.choice([*FILLER[:6], *PEOPLE, *PLACES]) for _ in range(chance.randrange(3, 9))]
    return Record(tokens=tuple(words), tags=tags_of(words), where=where)


def tags_of(words: list[str]) -> tuple[str, ...]:
    """Tags by word; neighbours of one kind are one entity."""
    tags: list[str] = []
    for i, word in enumerate(words):
        kind = "PER" if word in PEOPLE else "LOC" if word in PLACES else None
        inside = kind is not None and i > 0 and tags[i - 1].endswith(kind)
        tags.append("O" if kind is None else f"{'I' if inside else 'B'}-{kind}")
    return tuple(tags)


def _text(chance: random.Random, told: tuple[str, ...], count: int) -> str:
    words = [
        *chance.choices(FILLER, k=chance.randrange(1, 5)),
        *(chance.sample(told, count) if count else ()),
    ]
    chance.shuffle(words)
    return " ".join(words)
