"""Text: a tokenizer that turns texts, pairs and words into token ids with known special tokens."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import cast

from tokenizers import Encoding, PreTokenizedString, Tokenizer, models, normalizers, pre_tokenizers

from softcue.errors import BackboneError, RequestError
from softcue.text.example import Example
from softcue.text.template import JsonObject, Offset, Template, read_templates
from softcue.text.vocabulary import REBUILD, from_vocabulary
from softcue.text.words import end_of_word, marks_apart

REMEMBERED = 2**16  # words whose units are remembered
CHUNK = 4096  # texts that are tokenised at once: the library takes some hundred bytes for each token


@dataclass(frozen=True)
class Encoded:
    """One example, and how its tokens relate to the text that they were made from."""

    example: Example
    # span of each token in its own text or word, (0, 0) for special tokens; it may include the space before
    offset: tuple[Offset, ...]
    dropped: int  # tokens lost to truncation
    dropped_words: int  # words of which no token is left
    # word of each token, -1 for special tokens; empty for texts that were not given as words
    word_of: tuple[int, ...] = ()


class Text:
    """A tokenizer and the length that its encoder reads; the only code that knows token ids."""

    def __init__(self, tokenizer: Tokenizer, limit: int = 512) -> None:
        """Take the tokenizer over: its padding, truncation and post-processor are switched off.

        limit: longest example in tokens, special ones included. Raises BackboneError for a tokenizer without
        a template.
        """
        tokenizer.no_padding()
        tokenizer.no_truncation()
        stored = tokenizer.to_str()
        self.limit = limit
        # The digest is of the library's own JSON, so that it does not depend on how the file was written.
        self.digest = hashlib.sha256(stored.encode()).hexdigest()
        single, self._pair = read_templates(_settings(tokenizer)["post_processor"])
        if single is None:
            raise BackboneError(
                "the tokenizer has no template that inserts special tokens (post_processor in "
                f"tokenizer.json); softcue reads its slots from there: save it again with one ({REBUILD})"
            )
        self._single = single
        # The template is laid out here; ByteLevel's post-processor would change the offsets, too.
        tokenizer.post_processor = None
        self._tokenizer = tokenizer
        self._units: dict[str, tuple[str, ...]] = {}  # of words seen lately, for texts repeat their words

    @classmethod
    def load(cls, folder: Path | str, limit: int = 512) -> "Text":
        """Load the tokenizer of `folder`: its tokenizer.json, or a BERT vocab.txt.

        Raises BackboneError if neither is there, and for one that is damaged.
        """
        folder = Path(folder)
        path = folder / "tokenizer.json"
        if not path.is_file():
            path = folder / "vocab.txt"
        if not path.is_file():
            raise BackboneError(
                f"'{folder}' holds neither tokenizer.json nor vocab.txt; name a folder that does ({REBUILD})"
            )
        try:
            tokenizer = Tokenizer.from_file(str(path)) if path.suffix == ".json" else from_vocabulary(path)
            text = cls(tokenizer, limit)
            # A tokenizer that lacks its unknown token fails only at a text that needs it, such as this one.
            text._tokenizer.encode("a \ue000")
        except BackboneError as error:
            raise BackboneError(f"'{path}': {error}") from None
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # a panic inside the library is not an Exception
            raise BackboneError(
                f"'{path}' is not a sound tokenizer ({error}); fetch it again, or rebuild it: {REBUILD}"
            ) from None
        return text

    @property
    def highest(self) -> int:
        """The largest token id that it may return, in its template or for a text."""
        pairs = () if self._pair is None else self._pair.pieces
        special = [token for piece in (*self._single.pieces, *pairs) for token in piece.token]
        return max([*special, *self._tokenizer.get_vocab(with_added_tokens=True).values()], default=0)

    def slots(self, pair: bool) -> tuple[str, ...]:
        """Return the roles of the special tokens that the template inserts, in reading order.

        With BERT they are ("cls", "sep") for a text, and ("cls", "sep", "sep") for a pair.
        """
        return self._template(pair).slots

    def encode(self, text: str, pair: str | None = None, limit: int | None = None) -> Encoded:
        """Return one text, or a pair, as token ids; the same as encode_many with one."""
        return self.encode_many([(text, pair)], limit)[0]

    def encode_many(self, texts: Sequence[tuple[str, str | None]], limit: int | None = None) -> list[Encoded]:
        """Return texts, or pairs, as token ids.

        Of a pair that exceeds the limit the longer text is cut first. Raises RequestError for what is not a
        valid string, and for a limit that the template alone exceeds.
        """
        limit = self.limit if limit is None else limit
        encoded: list[Encoded] = []
        for at in range(0, len(texts), CHUNK):
            chunk = texts[at : at + CHUNK]
            flat = [text for pair in chunk for text in _given(pair)]
            try:
                encodings = iter(self._tokenizer.encode_batch(flat, add_special_tokens=False))
            except TypeError:
                numbered = ((at + i, text) for i, pair in enumerate(chunk) for text in _given(pair))
                raise _refusal("text", numbered) from None
            for _, second in chunk:
                if second is None:
                    encoded.append(_lay(self._template(False), limit, next(encodings)))
                else:
                    encoded.append(_lay(self._template(True), limit, next(encodings), next(encodings)))
        return encoded

    def encode_words(self, words: Sequence[str], limit: int | None = None) -> Encoded:
        """Return a text that comes as words; `example.word` is the first token of each word that is kept.

        A word for which the tokenizer has no token becomes its unknown token, so that labels stay with their
        words.
        """
        limit = self.limit if limit is None else limit
        words = list(words)
        try:
            encoding = self._for_words.encode(words, is_pretokenized=True, add_special_tokens=False)
        except TypeError:
            raise _refusal("word", enumerate(words)) from None
        word_of = cast("list[int]", encoding.word_ids)  # without special tokens, each has its word
        ids, spans = encoding.ids, encoding.offsets
        lost = set(range(len(words))).difference(word_of)
        if lost:
            unknown = [(at, self._unknown(words[at], at), (0, len(words[at]))) for at in lost]
            rows = sorted([*zip(word_of, ids, spans, strict=True), *unknown], key=itemgetter(0))
            word_of, ids, spans = (list(column) for column in zip(*rows, strict=True))
        template = self._template(False)
        (kept,) = template.keep(limit, [len(ids)])
        example, offset = template.fill([(ids[:kept], spans[:kept])])
        before = template.lead
        after = template.size - template.lead
        word_of = word_of[:kept]
        firsts = tuple(i + before for i, word in enumerate(word_of) if not i or word != word_of[i - 1])
        return Encoded(
            Example(example.token, example.segment, example.special, firsts),
            offset,
            dropped=len(ids) - kept,
            dropped_words=len(words) - len(firsts),
            word_of=(*[-1] * before, *word_of, *[-1] * after),
        )

    def split_words(self, text: str) -> list[Offset]:
        """Return the spans of the units of a text, in order; none is empty, and none has white space.

        A unit ends where the tokenizer's own pre-tokenizer ends a word, and before and after each punctuation
        mark, whatever the family. So tags are learnt and answered for the same units, whoever split the text.
        """
        tokenizer = self._tokenizer
        try:
            splits = PreTokenizedString(text)
        except (TypeError, UnicodeEncodeError):
            raise _refusal("text", [(0, text)]) from None
        if tokenizer.normalizer is not None:
            splits.normalize(tokenizer.normalizer.normalize)
        if tokenizer.pre_tokenizer is not None:
            tokenizer.pre_tokenizer.pre_tokenize(splits)
        spans: list[Offset] = []
        # Normalisation can turn one character, such as a fraction sign, into several words. The first of them
        # takes the character, and the others are left out.
        done = 0
        for _, (first, end), _ in splits.get_splits(offset_referential="original", offset_type="char"):
            first = max(first, done)
            for match in re.finditer(r"\S+", text[first:end]):
                spans += marks_apart(text, first + match.start(), first + match.end())
            done = max(done, end)
        stops = [*(first for first, _ in spans[1:]), len(text)]  # where the next unit begins
        return [
            (first, end_of_word(text, end, stop)) for (first, end), stop in zip(spans, stops, strict=False)
        ]

    def units(self, word: str) -> tuple[str, ...]:
        """Return the units of one word of a text that came as words.

        A word for which the tokenizer has no token is one unit.
        """
        if word not in self._units:
            if len(self._units) >= REMEMBERED:
                self._units.clear()
            units = tuple(word[first:end] for first, end in self.split_words(word))
            self._units[word] = units or (word,)
        return self._units[word]

    def _template(self, pair: bool) -> Template:
        if not pair:
            return self._single
        if self._pair is None:
            raise BackboneError(
                "the tokenizer has no template for pairs (post_processor in tokenizer.json); give single "
                "texts"
            )
        return self._pair

    @cached_property
    def _for_words(self) -> Tokenizer:
        """The tokenizer for texts that come as words.

        Byte-level BPE tells words apart by the space in front of them, so that each word needs one. All other
        tokenizers are used as they are.
        """
        before = _settings(self._tokenizer)["pre_tokenizer"] or {"type": None}
        steps = before.get("pretokenizers", [before])
        if not any(step["type"] == "ByteLevel" and not step["add_prefix_space"] for step in steps):
            return self._tokenizer
        spaced = Tokenizer.from_str(self._tokenizer.to_str())
        own = spaced.pre_tokenizer
        if isinstance(own, pre_tokenizers.ByteLevel):
            spaced.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=own.use_regex)
        else:
            # After another step, ByteLevel would put the space before every piece that the step has cut.
            first = [] if spaced.normalizer is None else [spaced.normalizer]
            spaced.normalizer = normalizers.Sequence([*first, normalizers.Prepend(" ")])
        return spaced

    def _unknown(self, word: str, at: int) -> int:
        model = self._tokenizer.model
        own = model.unk_token if isinstance(model, models.WordPiece | models.BPE | models.WordLevel) else None
        for name in (own, "[UNK]", "<unk>"):
            token = None if name is None else self._tokenizer.token_to_id(name)
            if token is not None:
                return token
        raise RequestError(
            f"word {at} ({word!r}) has no tokens and this tokenizer has no unknown token; remove the word"
        )


def _settings(tokenizer: Tokenizer) -> JsonObject:
    """Return what tokenizer.json says, without the vocabulary, which is slow to parse."""
    shell = Tokenizer(models.BPE())
    if tokenizer.pre_tokenizer is not None:
        shell.pre_tokenizer = tokenizer.pre_tokenizer
    if tokenizer.post_processor is not None:
        shell.post_processor = tokenizer.post_processor
    return json.loads(shell.to_str())


def _given(pair: tuple[str, str | None]) -> tuple[str, ...]:
    first, second = pair
    return (first,) if second is None else (first, second)


def _lay(template: Template, limit: int, *encodings: Encoding) -> Encoded:
    kept = template.keep(limit, [len(encoding) for encoding in encodings])
    texts = [
        (encoding.ids[:count], encoding.offsets[:count])
        for encoding, count in zip(encodings, kept, strict=True)
    ]
    example, offset = template.fill(texts)
    dropped = sum(map(len, encodings)) - sum(kept)
    return Encoded(example, offset, dropped, dropped_words=0)


def _refusal(kind: str, numbered: Iterable[tuple[int, object]]) -> RequestError:
    """Return the error for the first text that the library cannot take.

    The library itself says only that one of them is wrong.
    """
    for at, text in numbered:
        if not isinstance(text, str):
            return RequestError(f"{kind} {at} is {text!r} ({type(text).__name__}); expected a string")
        half = next((i for i, letter in enumerate(text) if "\ud800" <= letter <= "\udfff"), None)
        if half is not None:
            return RequestError(
                f"{kind} {at} holds half a character (U+{ord(text[half]):04X} at {half}); expected valid "
                "Unicode: read the data as UTF-8, or replace that character"
            )
    return RequestError(f"the {kind}s given are no sequence of strings")
