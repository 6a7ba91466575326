"""Requests to items and logits to answers, for each kind of task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy

from softcue.errors import RequestError, short
from softcue.kinds import KINDS
from softcue.kinds.record import Offsets, Reading, Record
from softcue.kinds.requests import REQUEST_INPUTS
from softcue.kinds.values import Wrong
from softcue.readers.columns import TEMPLATE, Finder, as_columns, unpacked
from softcue.readers.items import Item, make_items
from softcue.tasks import inputs_of
from softcue.text.tokens import Text

UNSURE = "unsure"  # key of an answer, or of an entity, whose chance is small
READ = (*REQUEST_INPUTS, TEMPLATE)  # what is said of columns that requests have
OURS = ("adapter", "where")  # keys of a request that say nothing about the text


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


def inputs_for(request: Mapping[str, Any], task: str, columns: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the texts of a request as an adapter is to read them. Raises RequestError.

    task, columns: what the adapter was trained on.
    """
    raw = {key: value for key, value in request.items() if key not in OURS}
    others = set(raw) - set(REQUEST_INPUTS)
    if not others and not columns:
        return raw  # the texts as they are to be read
    try:
        fields = Finder(as_columns(None, columns)).fields(inputs_of(task, raw))
        found = unpacked({name: value for name, value in fields.items() if name in REQUEST_INPUTS})
    except Wrong as error:
        raise RequestError(str(error)) from error
    if columns and not found:
        said = " and ".join(f"{name} ({line})" for name, line in columns.items() if name in READ)
        raise RequestError(f"has {short(', '.join(map(str, raw)))}; expected {said}, under either name")
    return found


def say(answer: Any, question: Question) -> dict[str, Any]:
    """Return an answer as JSON-ready values.

    answer: of torch on the host, or of NumPy.
    (C,), (), (choices,) or (words, C) -> a dictionary.
    """
    said = KINDS[question.reading.kind].say(numpy.asarray(answer), question)
    return with_doubt(said, question.unsure_below) if question.unsure_below else said


def with_doubt(said: dict[str, Any], below: float) -> dict[str, Any]:
    """Return an answer that also says whether it is unsure: its chance, or an entity's, is below `below`."""
    if "entities" in said:
        entities = [{**entity, UNSURE: entity["score"] < below} for entity in said["entities"]]
        return {**said, "entities": entities}
    chances = said["scores"].values() if isinstance(said["scores"], Mapping) else said["scores"]
    return {**said, UNSURE: max(chances) < below}
