"""Managing over HTTP a bank and a folder of adapters as they are: what changes, and what cannot."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from softcue.bank.bank import Bank
from softcue.bank.opening import open_source
from softcue.serving.app import make_app
from tests.answering.test_predict import random_adapter
from tests.serving.fake import KINDS, FakeService, client_of, fault_of
from tests.serving.test_http_refusals import ODD_NAMES
from tests.serving.test_http_uploads import adapter_files, hostile, tar_of
from tests.tiny_base import tiny_base

SOURCES = ("bank", "folders")


def stored(kind: str, place: Path) -> TestClient:
    """A client of a server over a bank or over folders in `place` with an adapter of each kind."""
    for name, what in KINDS.items():
        random_adapter(tiny_base(), "pasta", what).save(place / "adapters" / name)
    source = open_source(place / "adapters")
    if kind == "bank":
        bank = Bank.create(place / "bank")
        bank.add_all((entry.name, source.load(entry)) for entry in source.page())
        source = bank
    return client_of(make_app(FakeService(source), source))


@pytest.fixture(name="kind", params=SOURCES)
def choose_kind(request: pytest.FixtureRequest) -> str:
    """Each of the sources."""
    return str(request.param)


def test_an_upload_is_answered_replaced_and_removed(kind: str, tmp_path: Path) -> None:
    client = stored(kind, tmp_path)
    for version in (1, 2):
        added = client.put("/v1/adapters/new", content=tar_of(adapter_files()))
        assert (added.status_code, added.json()["version"]) == (201, version), added.text
        assert client.post("/models/new", json={"inputs": "the apple"}).status_code == 200
    assert client.get("/v1/adapters").json()["count"] == 5
    assert client.get("/v1/adapters", params={"limit": 1000, "search": "ne"}).json()["next"] is None
    assert client.delete("/v1/adapters/new").status_code == 200
    fault_of(client.post("/models/new", json={"inputs": "the apple"}), 404)


def test_aliases_are_a_banks(kind: str, tmp_path: Path) -> None:
    client = stored(kind, tmp_path)
    answer = client.put("/v1/adapters/spam/aliases/prod", json={"version": 1})
    if kind == "bank":
        assert answer.json()["aliases"] == ["prod"]
        assert client.post("/models/spam@prod", json={"inputs": "the apple"}).status_code == 200
    else:
        assert "bank" in fault_of(answer, 422)


def test_nothing_odd_is_stored(kind: str, tmp_path: Path) -> None:
    client = stored(kind, tmp_path)
    before = sorted(path for path in tmp_path.rglob("*") if "bank" not in path.parts)
    listed = client.get("/v1/adapters").json()
    for body in hostile().values():
        fault_of(client.put("/v1/adapters/new", content=body), 422)
    for name in ODD_NAMES[7:]:
        path = f"/v1/adapters/{name}" if name.isprintable() else "/v1/adapters/%00"
        answer = client.put(path, content=tar_of(adapter_files()))
        assert 400 <= answer.status_code < 500, (name, answer.text)
    assert client.get("/v1/adapters").json() == listed
    assert sorted(path for path in tmp_path.rglob("*") if "bank" not in path.parts) == before
