"""Tags: turns entities that are spans of characters, and tags that are numbers, into words with tags."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from softcue.errors import short
from softcue.kinds.values import Empty, Wrong, as_list, as_text
from softcue.text.words import marks_apart

# how Unicode's names for letters begin in scripts that are written without spaces
UNSPACED = ("CJK ", "HIRAGANA ", "KATAKANA ", "THAI ", "LAO ", "KHMER ", "MYANMAR ")


def with_tags(fields: Mapping[str, Any], names: Sequence[str], asked: bool) -> Mapping[str, Any]:
    """Return a row's fields, with entities replaced by tokens and tags, and numbers by tags.

    names: the tags' names, by number. asked: whether a row with both a label and entities is for tagging.
    Raises Wrong.
    """
    spans = fields.get("entities") if fields.get("tokens") is None else None
    if spans is not None and (asked or not {"label", "labels"} & set(fields)):
        if fields.get("text") is None:
            raise Empty("text")
        text = as_text(fields["text"], "text")
        tokens, tags = words_of_spans(text, as_list(spans, "entities"))
        kept = {name: value for name, value in fields.items() if name not in ("text", "entities")}
        return {**kept, "tokens": tokens, "tags": tags}
    if names and fields.get("tags") is not None:
        numbers = as_list(fields["tags"], "tags")
        return {**fields, "tags": [_named(tag, at + 1, names) for at, tag in enumerate(numbers)]}
    return fields


def words_of_spans(text: str, entities: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Return the words of a text and their tags in IOB2.

    A word is a run of characters without white space; each punctuation mark is a word too. A raw text is cut
    in the same way when it is answered. entities: dictionaries with start, end (exclusive) and label. Raises
    Wrong for entities that overlap, reach beyond the text or cut through a word.
    """
    words = list(_words(text))
    first = {start: at for at, (start, _) in enumerate(words)}
    last = {end: at for at, (_, end) in enumerate(words)}
    tags = ["O"] * len(words)
    before = (0, 0)
    for start, end, label in sorted(_span(entity, at + 1, text) for at, entity in enumerate(entities)):
        shown = f"the entity {short(text[start:end])} ({start} to {end})"
        if start < before[1]:
            raise Wrong(f"{shown} overlaps with {short(text[slice(*before)])} ({before[0]} to {before[1]})")
        if start not in first or end not in last:
            raise Wrong(f"{shown} {_misfit(text, start, end, words)}")
        tags[first[start]] = f"B-{label}"
        for at in range(first[start] + 1, last[end] + 1):
            tags[at] = f"I-{label}"
        before = (start, end)
    return [text[start:end] for start, end in words], tags


def _words(text: str) -> Iterator[tuple[int, int]]:
    for match in re.finditer(r"\S+", text):
        yield from marks_apart(text, match.start(), match.end())


def _span(entity: Any, number: int, text: str) -> tuple[int, int, str]:
    if not isinstance(entity, Mapping):
        raise Wrong(f"entity {number} is {short(entity)}; expected an object with start, end and label")
    start, end = entity.get("start"), entity.get("end")
    label = entity.get("label", entity.get("entity_group"))  # softcue's own answers have entity_group
    if type(start) is not int or type(end) is not int:
        raise Wrong(
            f"entity {number} goes from {short(start)} to {short(end)}; expected whole numbers (characters)"
        )
    if not 0 <= start < end <= len(text):
        raise Wrong(f"entity {number} goes from {start} to {end}; expected a span within 0 to {len(text)}")
    return start, end, as_text(label, f"the label of entity {number}")


def _misfit(text: str, start: int, end: int, words: Sequence[tuple[int, int]]) -> str:
    """Say why an entity is not made of whole words."""
    if text[start].isspace() or text[end - 1].isspace():
        return "begins or ends with a space; leave it out"
    cut = next((a, b) for a, b in words if a < start < b or a < end < b)
    told = f"cuts through the word {short(text[slice(*cut)])}; expected whole words"
    if any(unicodedata.name(letter, "").startswith(UNSPACED) for letter in text[slice(*cut)]):
        told += (
            ", but this script has no spaces between words: give the row as tokens and tags, cut into words "
            "or characters, and give requests as tokens too"
        )
    return told


def _named(tag: Any, number: int, names: Sequence[str]) -> Any:
    """Return the name of a tag that is a number, and other tags as they are."""
    if isinstance(tag, str) and tag.isascii() and tag.isdecimal() and len(tag) < 10:  # of a text file
        tag = int(tag)
    if isinstance(tag, bool) or not isinstance(tag, int):
        return tag
    if not 0 <= tag < len(names):
        raise Wrong(
            f"tag {number} is {short(tag)}; expected 0 to {len(names) - 1}, the {len(names)} names given"
        )
    return names[tag]
