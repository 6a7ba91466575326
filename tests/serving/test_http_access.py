"""Access: who may ask and who may manage, and what a server without tokens is good for."""

import logging
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from softcue.errors import RequestError
from softcue.serving.access import Access, check_exposed, gather_access, host_of, is_loopback
from softcue.serving.app import make_app
from tests.serving.fake import FakeService, MemorySource, client_of, fault_of, make_service, make_source

__all__ = ["make_service", "make_source"]

READER, MANAGER = "reader-" + "r" * 20, "manager-" + "m" * 20
ALIAS = "/v1/adapters/spam/aliases/prod"
READS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/predict", {"json": {"inputs": "a", "adapter": "spam"}}),
    ("POST", "/models/spam", {"json": {"inputs": "a"}}),
    ("GET", "/v1/adapters", {}),
    ("GET", "/info", {}),
    ("GET", "/metrics", {}),
]
CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("PUT", ALIAS, {"json": {"version": 1}}),
    ("DELETE", ALIAS, {}),
    ("DELETE", "/v1/adapters/pair", {}),
]
OPEN = ("/health", "/ready", "/ping", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json")


def tokens(folder: Path) -> Access:
    """The access of two files."""
    (folder / "read").write_text(f"{READER}\nsecond-{'s' * 20}\n")
    (folder / "manage").write_text(MANAGER)
    return gather_access(folder / "read", folder / "manage", {})


@pytest.fixture(name="guarded")
def make_guarded(tmp_path: Path, service: FakeService, source: MemorySource) -> TestClient:
    """A client of a server with tokens."""
    return client_of(make_app(service, source, tokens(tmp_path)))


def bearer(token: str) -> dict[str, str]:
    """The header with a token."""
    return {"Authorization": f"Bearer {token}"}


def test_reading_takes_a_token_of_either_scope(guarded: TestClient) -> None:
    for verb, path, more in READS:
        for headers in ({}, bearer("wrong-" + "w" * 20), {"Authorization": f"Basic {READER}"}, bearer("")):
            answer = guarded.request(verb, path, headers=headers, **more)
            fault_of(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
        for token in (READER, "second-" + "s" * 20, MANAGER):
            assert guarded.request(verb, path, headers=bearer(token), **more).status_code == 200


def test_managing_takes_the_other_token(guarded: TestClient) -> None:
    for verb, path, more in CHANGES:
        fault_of(guarded.request(verb, path, **more), 401)
        fault_of(guarded.request(verb, path, headers=bearer(READER), **more), 403)
        assert guarded.request(verb, path, headers=bearer(MANAGER), **more).status_code == 200


def test_health_and_the_document_are_open(guarded: TestClient) -> None:
    for path in OPEN:
        assert guarded.get(path, headers={"Host": "elsewhere.example"}).status_code == 200


def test_without_tokens_only_this_machines_names_are_answered(
    service: FakeService, source: MemorySource
) -> None:
    client = client_of(make_app(service, source))
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"):
        assert client.get("/v1/adapters", headers={"Host": host}).status_code == 200
    for host in ("evil.example:8000", "localhost.evil.example", "10.0.0.1", "[::2]"):
        assert "--read-token-file" in fault_of(client.get("/v1/adapters", headers={"Host": host}), 403)


def test_tokens_come_from_the_environment_too(service: FakeService, source: MemorySource) -> None:
    access = gather_access(None, None, {"SOFTCUE_MANAGE_TOKENS": f"{MANAGER} other-{'o' * 20}"})
    assert not access.is_open
    client = client_of(make_app(service, source, access))
    fault_of(client.get("/v1/adapters"), 401)
    assert client.delete("/v1/adapters/spam", headers=bearer("other-" + "o" * 20)).status_code == 200
    assert gather_access(None, None, {}).is_open


def test_no_token_is_shown_or_logged(
    guarded: TestClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told = repr(tokens(tmp_path))
    for token in (READER, MANAGER, "wrong-" + "w" * 20):
        answer = guarded.get("/v1/adapters", headers=bearer(token))
        told += answer.text + str(answer.headers)
    told += caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    for token in (READER, MANAGER, "wrong-" + "w" * 20):
        assert token not in told


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no token"),
        (b" \n\n", "no token"),
        (b"short", "5 characters"),
        (b"\xff" * 20, "ASCII"),
        ("\u00fc".encode() * 20, "ASCII"),
        (b"x" * 100_000, "100,000 bytes"),
    ],
    ids=repr,
)
def test_files_without_a_good_token_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(RequestError, match=words) as caught:
        gather_access(None, tmp_path / "file", {})
    assert str(tmp_path / "file") in str(caught.value)
    assert "short" not in str(caught.value)


def test_a_file_of_tokens_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="nothing"):
        gather_access(tmp_path / "nothing", None, {})


def test_other_machines_are_let_in_with_tokens_alone(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        check_exposed(host, Access())
    for host in ("0.0.0.0", "::", "10.0.0.1", "server.example"):
        with pytest.raises(RequestError, match="token_urlsafe"):
            check_exposed(host, Access())
        check_exposed(host, tokens(tmp_path))


def test_hosts_are_taken_apart() -> None:
    assert host_of("localhost:80") == "localhost"
    assert host_of("[::1]:80") == "::1"
    assert not is_loopback("")
    assert is_loopback("localhost.")
