"""Requests made from the OpenAPI document, right and wrong ones: each answer is one that it documents."""

from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from softcue.serving.app import make_app
from softcue.serving.body import Limits
from tests.serving.fake import KINDS, FakeService, filled_source

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
LIMITS = Limits(payload=200_000, rows=16, upload=300_000, seconds=2.0)
HERE = {"Host": "localhost"}


@schemathesis.serializer("application/x-tar", "application/gzip")
def send_bytes(context: Any, value: Any) -> bytes:
    """Send what was made for a tar as it is."""
    return value if isinstance(value, bytes) else getattr(value, "data", None) or str(value).encode()


def known_names(document: dict[str, Any]) -> dict[str, Any]:
    """The document with names that are there, so that requests get beyond the look-up."""
    there = {"enum": [*KINDS, "pair", *(f"{name}@1" for name in KINDS)]}
    for verbs in document["paths"].values():
        for operation in verbs.values():
            for parameter in operation["parameters"]:
                if parameter["name"] in ("adapter", "name"):
                    parameter["schema"] = there
    schemas = document["components"]["schemas"]
    schemas["PredictBody"]["properties"]["adapter"] = {"anyOf": [there, {"type": "array", "items": there}]}
    schemas["ClassifyBody"]["properties"]["model"] = there
    return document


def fuzz(examples: int) -> Counter[tuple[str, int]]:
    """Send so many requests to each route, right and wrong ones; return how often each status came."""
    came: Counter[tuple[str, int]] = Counter()
    source = filled_source()
    app = make_app(FakeService(source), source, limits=LIMITS)
    assert app.openapi_schema is not None
    app.openapi_schema = known_names(app.openapi_schema)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=HERE)
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:
            source.stored.update(filled_source().stored)

            @settings(
                max_examples=examples,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
                phases=[Phase.generate],
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                answer = case.call(headers=HERE)
                came[case.operation.label, answer.status_code] += 1
                case.validate_response(answer, checks=CHECKS)

            try:
                ask()
            except Unsatisfiable:  # nothing about it can be wrong
                assert mode is GenerationMode.NEGATIVE
    return came


@pytest.mark.slow
def test_a_few_requests_to_each_route_get_documented_answers() -> None:
    came = fuzz(8)
    assert sum(came.values()) >= 200
    assert {status for _, status in came} >= {200, 404, 422}


@pytest.mark.soak
def test_fifty_thousand_requests_get_documented_answers() -> None:
    came = fuzz(3_000)
    assert sum(came.values()) >= 50_000, came
