"""Answers in the shapes of Hugging Face's pipelines: labels with scores, best first, and entities."""

import re
from collections.abc import Sequence
from typing import Any

from softcue.answering.answers import UNSURE
from softcue.errors import RequestError
from softcue.kinds import KINDS
from softcue.kinds.base import READS_WORDS

FUNCTIONS = ("softmax", "sigmoid", "none")  # of function_to_apply
STRATEGIES = ("none", "simple", "first", "average", "max")  # of aggregation_strategy; words are always whole
_WORD = re.compile(r"\S+")


def scored_answer(
    kind: str, value: dict[str, Any], choices: Sequence[str], raw: bool = False
) -> list[dict[str, Any]]:
    """Return a Predictor's answer as {label, score}, best first; a tagger's as entities.

    choices: those of the request, if it has any. raw: logarithms of the probabilities, which are the logits
    but for a constant. Where the answer says whether it is unsure, the first of the labels, which is the
    answer, says so too.
    """
    own = KINDS[kind]
    found = own.scored(value, choices, own.raw if raw else float)
    return [{**found[0], UNSURE: value[UNSURE]}, *found[1:]] if UNSURE in value else found


def piped_answer(
    kind: str,
    value: dict[str, Any],
    choices: Sequence[str],
    *,
    name: str,
    top_k: int | None = None,
    function_to_apply: str | None = None,
    aggregation_strategy: str | None = None,
    ignore_labels: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return a Predictor's answer as Hugging Face's pipelines give it.

    choices: those of the request, if it has any. name: of the adapter, for messages. aggregation_strategy:
    all but "none" group words as the adapter does. Raises RequestError.
    """
    own = KINDS[kind]
    if own.reads == READS_WORDS:
        return _entities_as(value["entities"], aggregation_strategy, ignore_labels or ())
    if function_to_apply == "sigmoid" and own.activation == "softmax":
        raise RequestError(
            f"function_to_apply is 'sigmoid', and the labels of {name!r} exclude each other; expected "
            "'softmax' or 'none'"
        )
    if function_to_apply == "softmax" and own.activation == "sigmoid":
        raise RequestError(
            f"function_to_apply is 'softmax', and the labels of {name!r} do not exclude each other; expected "
            "'sigmoid' or 'none'"
        )
    return scored_answer(kind, value, choices, function_to_apply == "none")[:top_k]


def _entities_as(
    entities: Sequence[dict[str, Any]], strategy: str | None, ignore_labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Return entities as they are grouped, or word by word where no grouping was asked for."""
    ignored = set(ignore_labels)
    if strategy != "none":
        return [entity for entity in entities if entity["entity_group"] not in ignored]
    words = []
    for entity in entities:
        for number, found in enumerate(_WORD.finditer(entity["word"])):
            words.append(
                {
                    "entity": f"{'I' if number else 'B'}-{entity['entity_group']}",
                    "score": entity["score"],
                    "word": found[0],
                    "start": entity["start"] + found.start(),
                    "end": entity["start"] + found.end(),
                    **{key: entity[key] for key in (UNSURE,) if key in entity},
                }
            )
    return [word for word in words if word["entity"] not in ignored]
