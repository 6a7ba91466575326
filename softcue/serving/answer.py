"""Answering routes: /predict, Hugging Face's, vLLM's and KServe's."""

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from softcue.errors import RequestError
from softcue.kinds import KINDS
from softcue.kinds.base import READS_WORDS
from softcue.serving.body import read_body, unless_gone
from softcue.serving.endpoints import LOG_NOTES, Endpoint, Site
from softcue.serving.faults import json_response
from softcue.serving.needs import Answered
from softcue.serving.replies import json_body, ref
from softcue.serving.shapes import classified, inferred, native, outputs_of, piped, scored
from softcue.serving.wire import (
    ClassifyBody,
    InferBody,
    PipelineBody,
    PredictBody,
    RowInputs,
    name_rows,
    parse_body,
    read_inputs,
    read_plain_inputs,
    read_tensors_of_text,
    read_texts,
)

BUSY = (404, 429, 503, 504)


async def predict(site: Site, request: Request) -> Response:
    """Answer text-embeddings-inference's shape, and several adapters for one text."""
    body = parse_body(PredictBody, await read_body(request.receive, site.limits))
    rows, is_batch = read_inputs(body.inputs, site.limits)
    if body.adapters is not None:
        if is_batch or body.adapter is not None:
            raise RequestError(
                "adapters asks several tasks about one text; expected one text or object as inputs, and no "
                "adapter beside it"
            )
        if len(body.adapters) > site.limits.rows:
            raise RequestError(
                f"adapters holds {len(body.adapters):,} names; expected at most {site.limits.rows:,}"
            )
        answers = await unless_gone(request.receive, site.service.fan_out(body.adapters, rows[0]))
        _count(site, request, answers)
        _refuse_cut(body, answers)
        return json_response({"results": [native(answer) for answer in answers]})
    if isinstance(body.adapter, list) and not is_batch:
        raise RequestError(
            "adapter is a list and inputs is one text; for several tasks about one text give them as adapters"
        )
    answers = await _ask(site, request, rows, body.adapter)
    _refuse_cut(body, answers)
    raw = bool(body.raw_scores)
    made = [scored(answer, raw) for answer in answers]
    return json_response(made if is_batch else made[0])


async def pipeline(site: Site, request: Request) -> Response:
    """Answer Hugging Face Inference's shapes."""
    body = parse_body(PipelineBody, await read_body(request.receive, site.limits))
    rows, is_batch = read_plain_inputs(body.inputs, site.limits)
    answers = await _ask(site, request, rows, request.path_params.get("adapter", body.adapter))
    made = [piped(answer, body.parameters) for answer in answers]
    # its client reads the first element of a classifier's reply, and all of a tagger's
    is_flat = not is_batch and KINDS[answers[0].entry.kind].reads == READS_WORDS
    return json_response(made[0] if is_flat else made)


async def classify(site: Site, request: Request) -> Response:
    """Answer vLLM's shape."""
    body = parse_body(ClassifyBody, await read_body(request.receive, site.limits))
    answers = await _ask(site, request, read_texts(body.input, site.limits), body.model)
    return json_response(classified(body.model, answers))


async def infer(site: Site, request: Request) -> Response:
    """Answer the Open Inference Protocol."""
    body = parse_body(InferBody, await read_body(request.receive, site.limits))
    rows = read_tensors_of_text(body, site.limits)
    return json_response(inferred(body, await _ask(site, request, rows, request.path_params["adapter"])))


async def show_model(site: Site, request: Request) -> Response:
    """Say what the Open Inference Protocol says of a model."""
    entry = await asyncio.to_thread(site.source.find, request.path_params["adapter"])
    return json_response(
        {
            "name": entry.name,
            "versions": [str(entry.version)],
            "platform": "softcue",
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
            "outputs": outputs_of(entry.kind),
        }
    )


async def show_model_ready(site: Site, request: Request) -> Response:
    """Say that an adapter can be asked for."""
    entry = await asyncio.to_thread(site.source.find, request.path_params["adapter"])
    return json_response({"name": entry.name, "ready": True})


async def _ask(
    site: Site, request: Request, rows: list[RowInputs], adapter: str | list[str] | None
) -> Sequence[Answered]:
    """Return the answers to rows, by the only adapter where none is named."""
    if adapter is None:
        adapter = await asyncio.to_thread(_only_adapter, site)
    answers = await unless_gone(request.receive, site.service.answer(name_rows(rows, adapter)))
    _count(site, request, answers)
    return answers


def _refuse_cut(body: PredictBody, answers: Sequence[Answered]) -> None:
    if body.truncate is False:
        for number, answer in enumerate(answers):
            if answer.truncated:
                raise RequestError(
                    f"the text of row {number} is longer than {answer.entry.full_name} reads, and truncate "
                    "is false; shorten it, or let it be cut with truncate true"
                )


def _only_adapter(site: Site) -> str:
    there = site.source.page(limit=2)
    if len(there) != 1:
        raise RequestError(
            "no adapter is named, and there are "
            + ("several" if there else "none")
            + '; name one, as in {"inputs": "a text", "adapter": "spam"}'
        )
    return there[0].name


def _count(site: Site, request: Request, answers: Sequence[Answered]) -> None:
    site.metrics.count_answers(answers)
    request.scope[LOG_NOTES]["rows"] = len(answers)
    request.scope[LOG_NOTES]["tokens"] = sum(answer.tokens for answer in answers)


ANSWER_ENDPOINTS = (
    Endpoint(
        "POST",
        "/predict",
        predict,
        "Answer texts by adapters (text-embeddings-inference's shape), or one text by several adapters",
        body=json_body("PredictBody", {"inputs": "a text", "adapter": "spam"}),
        reply=ref("Predicted"),
        refusals=BUSY,
    ),
    Endpoint(
        "POST",
        "/models/{adapter}",
        pipeline,
        "Answer texts by an adapter in Hugging Face Inference's shape; InferenceClient's base_url",
        body=json_body("PipelineBody", {"inputs": "a text"}),
        reply=ref("Piped"),
        refusals=BUSY,
    ),
    Endpoint(
        "POST",
        "/classify",
        classify,
        "Classify texts in vLLM's shape; the model is an adapter",
        body=json_body("ClassifyBody", {"model": "spam", "input": ["a text"]}),
        reply=ref("Classified"),
        refusals=BUSY,
    ),
    Endpoint(
        "POST",
        "/v2/models/{adapter}/infer",
        infer,
        "Answer texts by an adapter in the Open Inference Protocol (KServe v2)",
        body=json_body(
            "InferBody",
            {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a text"]}]},
        ),
        reply=ref("Inferred"),
        refusals=BUSY,
    ),
    Endpoint(
        "POST",
        "/",
        pipeline,
        "Answer texts in Hugging Face Inference's shape, by the adapter named or the only one there is",
        body=json_body("PipelineBody", {"inputs": "a text", "adapter": "spam"}),
        reply=ref("Piped"),
        refusals=BUSY,
    ),
    Endpoint("GET", "/v2/models/{adapter}", show_model, "Say what an adapter reads", reply=ref("ModelFacts")),
    Endpoint(
        "GET",
        "/v2/models/{adapter}/ready",
        show_model_ready,
        "Say whether an adapter is there",
        reply=ref("ModelReady"),
    ),
)
