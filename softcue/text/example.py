"""Example: the token ids of one text or pair, as the tokenizer makes them and a batch takes them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """Token ids of one text (or pair), as `text` makes them; indices count from the example's first token."""

    token: Sequence[int]
    segment: Sequence[int]  # 0 for the first text, 1 for the second
    special: Sequence[int]  # indices of the special tokens that the template inserted, in reading order
    word: Sequence[int] = ()  # index of the first token of each word (tagging)
