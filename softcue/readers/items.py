"""Items: turns records into token ids and targets, as an adapter's reading says."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from softcue.kinds import KINDS
from softcue.kinds.base import READS_WORDS
from softcue.kinds.entities import continued
from softcue.kinds.record import IGNORED, Reading, Record
from softcue.text.example import Example
from softcue.text.tokens import Encoded, Text


@dataclass(frozen=True)
class Item:
    """A record that is ready to be packed.

    It has one example, or one for each choice, or one for each window of a text that is too long to tag at
    once.
    """

    encoded: tuple[Encoded, ...]
    # one for each example, in the form of its kind; labels that no training row has are IGNORED
    targets: tuple[Any, ...]
    # among the units of all windows, one after another, those that answer the record's words; None: all
    answering: tuple[int, ...] | None = None

    @property
    def examples(self) -> tuple[Example, ...]:
        """The item's examples, for pack()."""
        return tuple(encoded.example for encoded in self.encoded)

    @property
    def rows(self) -> int:
        """The number of tokens of all its examples."""
        return sum(len(encoded.example.token) for encoded in self.encoded)

    @property
    def dropped(self) -> int:
        """The number of truncated tokens; 0 for windows, because each token is in one of them."""
        windows = self.answering is not None and len(self.encoded) > 1
        return 0 if windows else sum(encoded.dropped for encoded in self.encoded)


def make_items(records: Sequence[Record], text: Text, reading: Reading) -> list[Item]:
    """Turn records into items: tokenize their texts, and number their labels."""
    kind, number = KINDS[reading.kind], _numbers(reading.labels)
    if kind.reads == READS_WORDS:
        return [_tagged(record, text, reading.limit, number) for record in records]
    pairs = [pair for record in records for pair in _pairs(record)]
    encoded = iter(text.encode_many(pairs, reading.limit))
    return [Item(tuple(next(encoded) for _ in _pairs(r)), kind.targets(r, reading, number)) for r in records]


ReadItems = Callable[[Sequence[Record], Reading], list[Item]]


def remembering(text: Text) -> ReadItems:
    """Return a make_items for one tokenizer that caches its items.

    Many jobs over the same records, with the same reading, then share their items.
    """
    # the records are kept in memory, so that no other object can get their id()
    known: dict[Any, tuple[Sequence[Record], list[Item]]] = {}

    def read(records: Sequence[Record], reading: Reading) -> list[Item]:
        key = tuple(map(id, records)), reading
        if key not in known:
            known[key] = records, make_items(records, text, reading)
        return known[key][1]

    return read


def _tagged(record: Record, text: Text, limit: int, number: Mapping[str, int]) -> Item:
    """Turn the units of a record's words into one item of windows that overlap.

    Each unit is learnt and answered in the window that has the most context around it. A given word has the
    answer of its first unit; in a raw text each unit is a word.
    """
    given = record.text is None
    words = [text.units(word) if given else (word,) for word in record.tokens]
    units = [unit for word in words for unit in word]
    targets = _unit_targets(words, record.tags, number)
    firsts = [0, *accumulate(len(word) for word in words)][:-1]  # the number of each word's first unit
    whole = text.encode_words(units, limit)
    if whole.dropped_words:
        return _in_windows(units, targets, firsts, [(0, whole), *_windows(units, text, limit, whole)])
    return Item((whole,), (targets,), tuple(firsts) if len(firsts) < len(units) else None)


def _unit_targets(
    words: Sequence[Sequence[str]], tags: Sequence[str], number: Mapping[str, int]
) -> list[int]:
    """Return the class number of each unit's tag; the later units of a word continue its tag."""
    if not tags:
        return [IGNORED for word in words for _ in word]
    targets = []
    for word, tag in zip(words, tags, strict=True):
        named = [tag] + [continued(tag)] * (len(word) - 1)
        targets += [number.get(name, IGNORED) for name in named]
    return targets


def _in_windows(
    units: Sequence[str],
    targets: Sequence[int],
    firsts: Sequence[int],
    windows: Sequence[tuple[int, Encoded]],
) -> Item:
    """Return the item of windows, each given with the number of its first unit."""
    spans = [(start, start + len(encoded.example.word)) for start, encoded in windows]
    owner = _owners(spans, len(units))
    learnt = []
    for window, span in enumerate(spans):
        learnt.append([targets[i] if owner[i] == window else IGNORED for i in range(*span)])
    offsets = [
        0,
        *accumulate(end - start for start, end in spans),
    ]  # of each window, in one list of all windows' units
    answering = tuple(offsets[owner[unit]] + unit - spans[owner[unit]][0] for unit in firsts)
    return Item(tuple(encoded for _, encoded in windows), tuple(learnt), answering)


def _owners(spans: Sequence[tuple[int, int]], count: int) -> list[int]:
    """Return for each of `count` units the window in `spans` that has the most context around it."""
    owner, most = [0] * count, [-1] * count
    for number, span in enumerate(spans):
        for unit in range(*span):
            margin = _margin(unit, span, count)
            if margin > most[unit]:
                owner[unit], most[unit] = number, margin
    return owner


def _windows(words: Sequence[str], text: Text, limit: int, window: Encoded) -> Iterator[tuple[int, Encoded]]:
    """Yield the windows after the first, each with the number of its first word.

    Each window overlaps the next one by a quarter.
    """
    start, count = 0, len(window.example.word)
    while start + count < len(words):
        start += max(1, count - count // 4)
        # a word has at least one token, so no window reaches further
        window = text.encode_words(words[start : start + limit], limit)
        count = len(window.example.word)
        yield start, window


def _margin(word: int, span: tuple[int, int], count: int) -> int:
    """Count the words of context on the side that has fewer; the ends of the text do not count."""
    before = count if span[0] == 0 else word - span[0]
    after = count if span[1] == count else span[1] - 1 - word
    return min(before, after)


def _numbers(labels: Sequence[str]) -> Mapping[str, int]:
    return {label: i for i, label in enumerate(labels)}


def _pairs(record: Record) -> list[tuple[str, str | None]]:
    """Return the texts that go through the encoder for one record."""
    assert record.text is not None
    return [(record.text, choice) for choice in record.choices] or [(record.text, record.pair)]
