"""Requests to items and logits to answers, for each kind of task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from softcue.kinds import KINDS
from softcue.kinds.record import Offsets, Reading, Record
from softcue.readers.items import Item, make_items
from softcue.text.tokens import Text


@dataclass(frozen=True)
class Question:
    """One request, ready for the encoder, with what its answer needs."""

    item: Item
    record: Record
    reading: Reading
    text: str
    offset: Offsets = ()  # of each word in `text` (tagging)
    unsure_below: float = 0.0  # chance of an answer below which it is called unsure; 0: none is


def ask(request: Mapping[str, Any], reading: Reading, pair: bool, text: Text) -> Question:
    """Make a request into one item. Raises RequestError where its fields do not fit the adapter's kind."""
    made = KINDS[reading.kind].ask(request, pair, text)
    return Question(make_items([made.record], text, reading)[0], made.record, reading, made.text, made.offset)


def say(answer: Tensor, question: Question) -> dict[str, Any]:
    """Return an answer as JSON-ready values.

    (C,), (), (choices,) or (words, C) -> a dictionary.
    """
    said = KINDS[question.reading.kind].say(answer, question)
    return with_doubt(said, question.unsure_below) if question.unsure_below else said


def with_doubt(said: dict[str, Any], below: float) -> dict[str, Any]:
    """Return an answer that also says whether it is unsure: its chance, or an entity's, is below `below`."""
    if "entities" in said:
        entities = [{**entity, "unsure": entity["score"] < below} for entity in said["entities"]]
        return {**said, "entities": entities}
    chances = said["scores"].values() if isinstance(said["scores"], Mapping) else said["scores"]
    return {**said, "unsure": max(chances) < below}
