"""Words of a raw text: which marks stand apart, and which characters belong together."""

import re
from collections.abc import Iterator
from string import punctuation
from unicodedata import category

# Hangul's vowels and finals, and the marks of half-width katakana. Unicode's category of marks lacks them.
MERGING = re.compile("[\u1160-\u11ff\uff9e\uff9f]")


def marks_apart(text: str, first: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a stretch without white space before and after each punctuation mark, and yield the spans."""
    for at in range(first, end):
        if text[at] in punctuation or category(text[at]).startswith("P"):
            if first < at:
                yield first, at
            yield at, at + 1
            first = at + 1
    if first < end:
        yield first, end


def end_of_word(text: str, end: int, stop: int) -> int:
    """Return the end of a word, with the marks that belong to its last letter.

    Normalisation merges such marks into the letter, so that the word's span leaves them out.
    """
    while end < stop and (category(text[end]).startswith("M") or MERGING.match(text[end])):
        end += 1
    return end
