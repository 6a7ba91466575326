"""Shapes: answers as text-embeddings-inference, Hugging Face, vLLM and KServe give them."""

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from pydantic_core import to_json

from softcue.errors import RequestError
from softcue.serving.needs import Answered
from softcue.serving.wire import InferBody, PipelineParameters

LEAST_CHANCE = 1e-45  # the smallest float32; the logarithm of a probability that is rounded to nothing
_WORD = re.compile(r"\S+")


def scored(answer: Answered, row: Mapping[str, Any], raw: bool = False) -> list[dict[str, Any]]:
    """Return an answer as {label, score}, best first; a tagger's as entities.

    raw: logarithms of the probabilities, which are the logits but for a constant.
    """
    return SCORED[answer.entry.kind](
        answer.value, row, (lambda p: math.log(max(p, LEAST_CHANCE))) if raw else float
    )


def native(answer: Answered) -> dict[str, Any]:
    """Return an answer with the adapter that gave it."""
    return {"adapter": answer.entry.full_name, "kind": answer.entry.kind, **answer.value}


def piped(
    answer: Answered, row: Mapping[str, Any], parameters: PipelineParameters | None
) -> list[dict[str, Any]]:
    """Return an answer as Hugging Face's pipelines give it. Raises RequestError."""
    asked = parameters or PipelineParameters()
    if answer.entry.kind == "tag":
        return _entities_as(answer.value["entities"], asked)
    if asked.function_to_apply == "sigmoid" and answer.entry.kind != "score":
        raise RequestError(
            f"function_to_apply is 'sigmoid', and the labels of {answer.entry.name!r} exclude each other; "
            "expected 'softmax' or 'none'"
        )
    return scored(answer, row, asked.function_to_apply == "none")[: asked.top_k]


def classified(model: str, answers: Sequence[Answered]) -> dict[str, Any]:
    """Return answers as vLLM's classify gives them. Raises RequestError."""
    tokens = sum(answer.tokens for answer in answers)
    data = []
    for index, answer in enumerate(answers):
        _expect(answer, "classify", "/classify")
        chances = list(answer.value["scores"].values())
        data.append(
            {"index": index, "label": answer.value["label"], "probs": chances, "num_classes": len(chances)}
        )
    return {
        "id": f"classify-{uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": data,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
    }


def inferred(body: InferBody, answers: Sequence[Answered]) -> dict[str, Any]:
    """Return answers as the Open Inference Protocol gives them. Raises RequestError."""
    entry = answers[0].entry
    outputs = [
        {"name": name, "datatype": datatype, "shape": shape, "data": data}
        for name, datatype, shape, data in _tensors(answers)
    ]
    reply: dict[str, Any] = {
        "model_name": entry.name,
        "model_version": str(entry.version),
        "outputs": outputs,
    }
    return {"id": body.id, **reply} if body.id is not None else reply


def outputs_of(kind: str) -> list[dict[str, Any]]:
    """Return what the Open Inference Protocol says of the outputs of a kind of adapter."""
    return [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in OUTPUTS[kind]]


OUTPUTS: dict[str, tuple[tuple[str, str, list[int]], ...]] = {
    "classify": (("label", "BYTES", [-1]), ("probabilities", "FP32", [-1, -1]), ("labels", "BYTES", [-1])),
    "score": (("value", "FP32", [-1]),),
    "choice": (),
    "tag": (("entities", "BYTES", [-1]),),
}


def _tensors(answers: Sequence[Answered]) -> list[tuple[str, str, list[int], list[Any]]]:
    """Return name, type, shape and values of each output tensor."""
    kind, count = answers[0].entry.kind, len(answers)
    values = [answer.value for answer in answers]
    if kind == "classify":
        labels = list(values[0]["scores"])
        flat = [value["scores"][label] for value in values for label in labels]
        return [
            ("label", "BYTES", [count], [value["label"] for value in values]),
            ("probabilities", "FP32", [count, len(labels)], flat),
            ("labels", "BYTES", [len(labels)], labels),
        ]
    if kind == "score":
        return [("value", "FP32", [count], [value["value"] for value in values])]
    _expect(answers[0], "tag", "infer")
    return [("entities", "BYTES", [count], [to_json(value["entities"]).decode() for value in values])]


def _expect(answer: Answered, kind: str, route: str) -> None:
    if answer.entry.kind != kind:
        raise RequestError(
            f"{answer.entry.name!r} is an adapter of kind {answer.entry.kind}, which {route} has no shape "
            "for; use /predict"
        )


def _labels(value: dict[str, Any], row: Mapping[str, Any], scale: Callable[[float], float]) -> list[Any]:
    best_first = sorted(value["scores"].items(), key=lambda pair: -pair[1])
    return [{"score": scale(chance), "label": label} for label, chance in best_first]


def _value(value: dict[str, Any], row: Mapping[str, Any], scale: Callable[[float], float]) -> list[Any]:
    return [{"score": value["value"], "label": "value"}]


def _choices(value: dict[str, Any], row: Mapping[str, Any], scale: Callable[[float], float]) -> list[Any]:
    """Return a choice's text as its label, where the request gave it as such, else its number."""
    given = row.get("choices")
    names = given if isinstance(given, list) else [str(i) for i in range(len(value["scores"]))]
    best_first = sorted(enumerate(value["scores"]), key=lambda pair: -pair[1])
    return [{"score": scale(chance), "label": names[place], "index": place} for place, chance in best_first]


def _entities(value: dict[str, Any], row: Mapping[str, Any], scale: Callable[[float], float]) -> list[Any]:
    return list(value["entities"])


def _entities_as(entities: Sequence[dict[str, Any]], asked: PipelineParameters) -> list[dict[str, Any]]:
    """Return entities as they are grouped, or word by word where no grouping was asked for."""
    ignored = set(asked.ignore_labels or ())
    if asked.aggregation_strategy != "none":
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
                }
            )
    return [word for word in words if word["entity"] not in ignored]


SCORED: dict[str, Callable[[dict[str, Any], Mapping[str, Any], Callable[[float], float]], list[Any]]] = {
    "classify": _labels,
    "score": _value,
    "choice": _choices,
    "tag": _entities,
}
