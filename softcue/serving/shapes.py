"""Shapes: answers as text-embeddings-inference, Hugging Face, vLLM and KServe give them."""

import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from softcue.answering.answers import UNSURE
from softcue.answering.piped import piped_answer, scored_answer
from softcue.errors import RequestError
from softcue.kinds import KINDS
from softcue.serving.needs import Answered
from softcue.serving.wire import InferBody, PipelineParameters


def scored(answer: Answered, raw: bool = False) -> list[dict[str, Any]]:
    """Return an answer as {label, score}, best first; a tagger's as entities.

    raw: logarithms of the probabilities, which are the logits but for a constant.
    """
    return scored_answer(answer.entry.kind, answer.value, answer.choices, raw)


def native(answer: Answered) -> dict[str, Any]:
    """Return an answer with the adapter that gave it."""
    return {"adapter": answer.entry.full_name, "kind": answer.entry.kind, **answer.value}


def piped(answer: Answered, parameters: PipelineParameters | None) -> list[dict[str, Any]]:
    """Return an answer as Hugging Face's pipelines give it. Raises RequestError."""
    asked = parameters or PipelineParameters()
    return piped_answer(
        answer.entry.kind,
        answer.value,
        answer.choices,
        name=answer.entry.name,
        top_k=asked.top_k,
        function_to_apply=asked.function_to_apply,
        aggregation_strategy=asked.aggregation_strategy,
        ignore_labels=asked.ignore_labels,
    )


def classified(model: str, answers: Sequence[Answered]) -> dict[str, Any]:
    """Return answers as vLLM's classify gives them. Raises RequestError."""
    tokens = sum(answer.tokens for answer in answers)
    data = []
    for index, answer in enumerate(answers):
        found = KINDS[answer.entry.kind].one_label(answer.value)
        if found is None:
            raise _no_shape(answer, "/classify")
        label, chances = found
        doubt = {UNSURE: answer.value[UNSURE]} if UNSURE in answer.value else {}
        data.append({"index": index, "label": label, "probs": chances, "num_classes": len(chances), **doubt})
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
    return [
        {"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in KINDS[kind].outputs
    ]


def _tensors(answers: Sequence[Answered]) -> list[tuple[str, str, list[int], list[Any]]]:
    """Return name, type, shape and values of each output tensor."""
    kind = KINDS[answers[0].entry.kind]
    if not kind.outputs:
        raise _no_shape(answers[0], "infer")
    count, made = len(answers), []
    for (name, datatype, shape), flat in zip(
        kind.outputs, kind.tensors([answer.value for answer in answers]), strict=True
    ):
        own = [len(flat)] if len(shape) == 1 else [count, len(flat) // count]
        made.append((name, datatype, own, flat))
    if UNSURE in answers[0].value:
        made.append((UNSURE, "BOOL", [count], [answer.value[UNSURE] for answer in answers]))
    return made


def _no_shape(answer: Answered, route: str) -> RequestError:
    return RequestError(
        f"{answer.entry.name!r} is an adapter of kind {answer.entry.kind}, which {route} has no shape "
        "for; use /predict"
    )
