"""HTTP's refusals: whatever a client sends wrong is told with a 4xx of one shape, and our own faults too."""

import json
import logging
from typing import Any

import pytest
from starlette.testclient import TestClient

from softcue.errors import (
    AdapterError,
    BusyError,
    ClosingError,
    DeadlineError,
    RequestError,
    UnknownAdapterError,
    WriteError,
)
from softcue.serving.access import Access
from softcue.serving.app import make_app
from tests.serving.fake import (
    FakeService,
    MemorySource,
    client_of,
    fault_of,
    make_client,
    make_service,
    make_source,
)

__all__ = ["make_client", "make_service", "make_source"]

POSTS = ("/predict", "/", "/models/spam", "/classify", "/v2/models/spam/infer")
GOOD = {"inputs": "the apple", "adapter": "spam"}
ODD_BODIES: list[bytes] = [
    b"",
    b"null",
    b"[]",
    b"7",
    b'"text"',
    b"{",
    b"{}",
    b'{"inputs": "a"',
    b'{"inputs": NaN, "adapter": "spam"}',
    b'{"inputs": ["a", NaN], "adapter": "spam"}',
    b'{"inputs": {"text": NaN}, "adapter": "spam", "model": 1e999, "input": Infinity}',
    b'{"inputs": "\\ud800", "adapter": "spam", "input": "\\ud800", "model": "spam"}',
    b'{"inputs": "\xff\xfe", "adapter": "spam"}',
    b"\x00\x01\x02",
    b"[" * 100_000,
    b'{"inputs": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"inputs": ' + b'{"text":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
    b'{"inputs": ' + b"9" * 10_000 + b"}",
    b"inputs=a+text&adapter=spam",
]
ODD_INPUTS: list[Any] = [
    None,
    7,
    True,
    1.5,
    "",
    "   ",
    [],
    [[]],
    [[], []],
    [["a", "b", "c"]],
    ["a", "b", "c"],
    ["a", ["b"]],
    [["a"], "b"],
    [["a"], None],
    [[1]],
    {},
    {"text": 7},
    {"text": None},
    {"text": ["a"]},
    {"text": {"text": "a"}},
    {"text": "a", "text_pair": "b"},
    {"text": "a", "adapter": "ner"},
    {"text": "a", "where": "here"},
    {"choices": ["a"]},
    {"tokens": []},
    {"tokens": ["a", 7]},
    {"premise": "a"},
    [[["a"]]],
    [["a"]] * 17,
    [["a"]] * 10_000,
]
ODD_NAMES = [
    "",
    "nothing",
    "spam@2",
    "spam@0",
    "spam@",
    "@1",
    "spam@none",
    "../spam",
    "..",
    ".",
    "/etc/passwd",
    "a/../../spam",
    "spam\x00",
    "spam\n",
    "C:\\spam",
    "~",
    "spam@1@1",
    "\u202espam",
    "s" * 5_000,
    "spam@" + "9" * 50,
    "\U0001f600",
]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", ODD_BODIES, ids=lambda body: repr(body[:24]))
def test_bodies_that_are_no_request_are_refused(client: TestClient, path: str, body: bytes) -> None:
    assert len(fault_of(client.post(path, content=body), 422)) <= 1_000


@pytest.mark.parametrize("inputs", ODD_INPUTS, ids=lambda inputs: repr(inputs)[:40])
@pytest.mark.parametrize("more", [{"adapter": "spam"}, {"adapters": ["spam", "rate"]}], ids=["one", "more"])
def test_inputs_that_are_no_text_are_refused(client: TestClient, inputs: Any, more: dict[str, Any]) -> None:
    fault_of(client.post("/predict", json={"inputs": inputs, **more}), 422)


@pytest.mark.parametrize(
    "inputs", [*ODD_INPUTS[:9], *ODD_INPUTS[15:22], ["a"] * 17, ["a"] * 10_000], ids=repr
)
@pytest.mark.parametrize("path", ["/models/spam", "/classify"])
def test_inputs_of_other_shapes_are_refused(client: TestClient, inputs: Any, path: str) -> None:
    body = {"inputs": inputs} if path != "/classify" else {"model": "spam", "input": inputs}
    fault_of(client.post(path, json=body), 422)


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: repr(name)[:24])
def test_names_of_no_adapter_are_refused_everywhere(client: TestClient, name: str) -> None:
    bodies: list[dict[str, Any]] = [
        {"inputs": "a", "adapter": name},
        {"inputs": [["a"], ["b"]], "adapter": ["spam", name]},
        {"inputs": "a", "adapters": ["spam", name]},
    ]
    answers = [client.post("/predict", json=body) for body in bodies]
    answers.append(client.post("/classify", json={"model": name, "input": "a"}))
    for answer in answers:
        assert answer.status_code in (404, 422), (answer.status_code, answer.text)
        fault_of(answer, answer.status_code)


@pytest.mark.parametrize(
    "path",
    ["..", "../spam", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%00", "spam%0a", "a%5cb", "%ff%fe", "s" * 5_000],
)
def test_paths_that_are_no_name_are_refused(client: TestClient, path: str) -> None:
    answers = [
        client.post(f"/models/{path}", json={"inputs": "a"}),
        client.get(f"/v1/adapters/{path}"),
        client.delete(f"/v1/adapters/{path}"),
        client.put(f"/v1/adapters/{path}", content=b"x"),
        client.put(f"/v1/adapters/spam/aliases/{path}", json={"version": 1}),
        client.get(f"/v2/models/{path}"),
        client.post(f"/v2/models/{path}/infer", json={"inputs": []}),
    ]
    for answer in answers:
        assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)


@pytest.mark.parametrize(
    "more",
    [
        {"adapter": 7},
        {"adapter": []},
        {"adapter": ["spam"]},
        {"adapter": ["spam", "spam", "spam"]},
        {"adapters": []},
        {"adapters": "spam"},
        {"adapters": [7]},
        {"adapters": ["spam"] * 17},
        {"adapters": ["spam"], "adapter": "spam"},
        {"adapter": "spam", "truncation_direction": "left"},
        {"adapter": "spam", "truncate": "yes"},
        {"adapter": "spam", "raw_scores": 1},
        {"adaptor": "spam"},
    ],
    ids=repr,
)
def test_fields_of_wrong_types_and_names_are_refused(client: TestClient, more: dict[str, Any]) -> None:
    fault_of(client.post("/predict", json={"inputs": "a", **more}), 422)


def test_several_adapters_take_one_text(client: TestClient) -> None:
    body = {"inputs": [["a"], ["b"]], "adapters": ["spam"]}
    assert "one text" in fault_of(client.post("/predict", json=body), 422)


@pytest.mark.parametrize(
    "parameters",
    [7, [], {"top_k": 0}, {"top_k": "1"}, {"function_to_apply": "tanh"}, {"aggregation_strategy": 1}],
    ids=repr,
)
def test_parameters_that_are_not_known_are_refused(client: TestClient, parameters: Any) -> None:
    fault_of(client.post("/models/spam", json={"inputs": "a", "parameters": parameters}), 422)


def test_a_body_above_the_limit_is_refused(client: TestClient) -> None:
    body = json.dumps({**GOOD, "inputs": "apple " * 40_000}).encode()
    assert "200,000 bytes" in fault_of(client.post("/predict", content=body), 413)
    assert client.post("/predict", json={**GOOD, "inputs": "apple " * 30_000}).status_code == 200


def test_routes_and_verbs_that_are_not_there_are_told_alike(client: TestClient) -> None:
    fault_of(client.get("/nothing"), 404)
    fault_of(client.get("/predict"), 405)
    fault_of(client.put("/predict", json=GOOD), 405)
    fault_of(client.post("/models/", json=GOOD), 404)
    fault_of(client.request("BREW", "/predict"), 405)


@pytest.mark.parametrize(
    ("fault", "status", "error_type"),
    [
        (UnknownAdapterError("x"), 404, "NotFound"),
        (RequestError("x"), 422, "Validation"),
        (BusyError("x", 2.4), 429, "Overloaded"),
        (DeadlineError("x"), 504, "Timeout"),
        (ClosingError("x"), 503, "Unhealthy"),
        (AdapterError("x"), 500, "Backend"),
        (WriteError("x"), 500, "Backend"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_of_the_service_has_its_status(
    client: TestClient, service: FakeService, fault: Exception, status: int, error_type: str
) -> None:
    service.fault = fault
    answer = client.post("/predict", json=GOOD)
    fault_of(answer, status)
    assert answer.json()["error_type"] == error_type
    assert answer.headers.get("retry-after") == ("2" if status == 429 else None)


def test_our_own_fault_is_logged_with_its_traceback_and_told_without(
    client: TestClient, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service.fault = ZeroDivisionError("the secret inside")
    answer = client.post("/predict", json=GOOD, headers={"X-Request-Id": "mine-7"})
    assert "secret" not in fault_of(answer, 500)
    record = next(record for record in caplog.records if record.exc_info)
    assert record.__dict__["fields"] == {"request_id": "mine-7"}
    service.fault = None
    assert client.post("/predict", json=GOOD).status_code == 200


def test_a_request_keeps_its_sane_id_and_its_line_holds_no_text(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "softcue.serving")
    for given, kept in (("trace-1:a/b", True), ("a b", False), ("x" * 200, False), ("", False)):
        answer = client.post("/predict", json=GOOD, headers={"X-Request-Id": given})
        assert (answer.headers["x-request-id"] == given) == kept
        assert answer.headers["x-request-id"]
    lines = [record.__dict__["fields"] for record in caplog.records if record.message == "request"]
    assert lines[0]["request_id"] == "trace-1:a/b"
    assert (lines[0]["verb"], lines[0]["path"], lines[0]["status"]) == ("POST", "/predict", 200)
    assert lines[0]["rows"] == 1
    assert "apple" not in caplog.text


def test_a_server_that_has_closed_its_service_refuses(source: MemorySource) -> None:
    service = FakeService(source)
    client = client_of(make_app(service, source, Access()))
    with client:
        pass
    assert service.closed
    fault_of(client.post("/predict", json=GOOD), 503)
