"""Uploads over HTTP: adapters come as a tar, and nothing else comes in with them."""

import contextlib
import gzip
import io
import struct
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from softcue.adapter.folder import HEADER, TENSORS
from softcue.errors import RequestError
from softcue.serving.upload import files_in_tar
from tests.answering.test_predict import random_adapter
from tests.serving.fake import (
    FakeService,
    MemorySource,
    fault_of,
    make_client,
    make_service,
    make_source,
)
from tests.tiny_base import tiny_base

__all__ = ["make_client", "make_service", "make_source"]

WRAPS = {"plain": bytes, "gzipped": gzip.compress}


def adapter_files(method: str = "pasta") -> dict[str, bytes]:
    """The two files of an adapter of the tiny base."""
    return random_adapter(tiny_base(), method).to_files("here")


def tar_of(
    files: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] | None = None, **how: int
) -> bytes:
    """A tar of files, each member changed."""
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w", format=how.get("form", tarfile.GNU_FORMAT)) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), how.get("mtime", 0)
            if change is not None:
                change(member)
            tar.addfile(member, io.BytesIO(data))
    return into.getvalue()


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_adapter_is_added_and_answers(client: TestClient, wrap: str, form: int) -> None:
    data = WRAPS[wrap](tar_of(adapter_files("stp"), form=form))
    for version in (1, 2):
        answer = client.put("/v1/adapters/new", content=data)
        assert answer.status_code == 201, answer.text
        assert (answer.json()["full_name"], answer.json()["method"]) == (f"new@{version}", "stp")
    assert client.post("/models/new@2", json={"inputs": "the apple"}).status_code == 200
    assert client.get("/v1/adapters/new").json()["version"] == 2


def test_what_tar_programs_add_is_taken(client: TestClient, tmp_path: Path) -> None:
    for name, data in adapter_files().items():
        (tmp_path / name).write_bytes(data)
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(tmp_path, ".")  # with times of fractions of a second, which PAX notes apart
    assert client.put("/v1/adapters/new", content=into.getvalue()).status_code == 201


def test_a_body_may_come_in_pieces(client: TestClient) -> None:
    data = gzip.compress(tar_of(adapter_files()))

    def pieces(size: int) -> Iterator[bytes]:
        yield from (data[at : at + size] for at in range(0, len(data), size))

    for size in (2, 100, 4_000):
        assert client.put("/v1/adapters/new", content=pieces(size)).status_code == 201


def test_versions_and_aliases_are_managed(client: TestClient) -> None:
    data = tar_of(adapter_files())
    client.put("/v1/adapters/new", content=data)
    client.put("/v1/adapters/new", content=data)
    assert client.put("/v1/adapters/new/aliases/prod", json={"version": 1}).json()["aliases"] == ["prod"]
    assert client.get("/v1/adapters/new@prod").json()["version"] == 1
    assert client.put("/v1/adapters/new/aliases/prod", json={"version": 2}).json()["version"] == 2
    assert client.delete("/v1/adapters/new/aliases/prod").json()["version"] == 2
    fault_of(client.get("/v1/adapters/new@prod"), 404)
    fault_of(client.delete("/v1/adapters/new/aliases/prod"), 404)
    fault_of(client.put("/v1/adapters/new/aliases/prod", json={"version": 9}), 404)
    for version in (0, -1, "1", 1.5, None, 10**30):
        fault_of(client.put("/v1/adapters/new/aliases/prod", json={"version": version}), 422)
    removed = client.delete("/v1/adapters/new@1").json()["removed"]
    assert [one["full_name"] for one in removed] == ["new@1"]
    assert len(client.delete("/v1/adapters/new").json()["removed"]) == 1
    fault_of(client.get("/v1/adapters/new"), 404)
    fault_of(client.delete("/v1/adapters/new"), 404)


def link(kind: bytes, target: str) -> Callable[[tarfile.TarInfo], None]:
    """Make members links."""

    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = kind, target, 0

    return change


def typed(kind: bytes) -> Callable[[tarfile.TarInfo], None]:
    """Make members something else than files."""

    def change(member: tarfile.TarInfo) -> None:
        member.type = kind

    return change


def hostile() -> dict[str, bytes]:
    """Archives that hold something else than an adapter's two files."""
    good = adapter_files()
    whole = tar_of(good)
    huge = bytearray(whole)
    huge[124:136] = b"77777777777\0"  # a size of 8 GiB
    binary_size = bytearray(whole)
    binary_size[124:136] = b"\x80" + b"\0" * 3 + struct.pack(">Q", 2**40)
    return {
        "nothing": b"",
        "no tar": b"hello" * 500,
        "zeros": bytes(4_096),
        "half a header": whole[:300],
        "half a file": whole[: 512 + 200],
        "damaged checksum": whole[:150] + b"9" + whole[151:],
        "a size beyond the end": _checked(huge),
        "a binary size": _checked(binary_size),
        "parent": tar_of({"../" + HEADER: b"{}"}),
        "deep parent": tar_of({"a/../../" + HEADER: b"{}"}),
        "absolute": tar_of({"/tmp/" + HEADER: b"{}"}),
        "in a folder": tar_of({"spam/" + name: data for name, data in good.items()}),
        "another file": tar_of({**good, "extra.py": b"print()"}),
        "a header alone": tar_of({HEADER: good[HEADER]}),
        "twice": tar_of({**good, "./" + HEADER: b"{}"}),
        "symbolic links": tar_of(good, link(tarfile.SYMTYPE, "/etc/passwd")),
        "hard links": tar_of(good, link(tarfile.LNKTYPE, HEADER)),
        "devices": tar_of(good, typed(tarfile.CHRTYPE)),
        "pipes": tar_of(good, typed(tarfile.FIFOTYPE)),
        "sparse files": tar_of(good, typed(tarfile.GNUTYPE_SPARSE)),
        "a long name": tar_of({"n" * 300: b"x"}),
        "many members": tar_of({f"file{i}": b"" for i in range(500)}),
        "many notes": b"".join(tar_of({"n": b"x"}, typed(b"x"))[:1024] for _ in range(100)),
        "gzip cut short": gzip.compress(whole)[:-20],
        "gzip and more": gzip.compress(whole) + b"more",
        "gzip twice": gzip.compress(whole) + gzip.compress(whole),
        "gzip damaged": gzip.compress(whole)[:100] + b"\0" * 100,
        "gzip of nothing": gzip.compress(b""),
        "swapped": tar_of({HEADER: good[TENSORS], TENSORS: good[HEADER]}),
        "mixed": tar_of({HEADER: good[HEADER], TENSORS: adapter_files("stp")[TENSORS]}),
        "damaged": tar_of({HEADER: good[HEADER], TENSORS: good[TENSORS][:-4] + b"\0\0\0\1"}),
    }


def _checked(tar: bytearray) -> bytes:
    """The tar with the right checksum of its first header."""
    tar[148:156] = b" " * 8
    tar[148:156] = f"{sum(tar[:512]):06o}\0 ".encode()
    return bytes(tar)


@pytest.mark.parametrize("name", hostile())
def test_hostile_archives_are_refused_and_leave_nothing(
    client: TestClient, source: MemorySource, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = source.count()
    fault_of(client.put("/v1/adapters/new", content=hostile()[name]), 422)
    assert source.count() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrap", WRAPS)
def test_what_is_too_large_packed_or_unpacked_is_refused(client: TestClient, wrap: str) -> None:
    body = WRAPS[wrap](bytes(400_000))
    assert "300,000 bytes" in fault_of(client.put("/v1/adapters/new", content=body), 413)


def test_a_bomb_is_not_unpacked(client: TestClient) -> None:
    bomb = gzip.compress(bytes(200_000_000), 9)
    assert len(bomb) < 300_000
    fault_of(client.put("/v1/adapters/new", content=bomb), 413)


def test_an_adapter_of_another_backbone_is_the_clients_fault(client: TestClient) -> None:
    files = random_adapter(tiny_base("bert", 1), "pasta").to_files("here")
    assert "fingerprint" in fault_of(client.put("/v1/adapters/new", content=tar_of(files)), 422)


def test_a_name_that_cannot_be_is_refused_before_the_body(client: TestClient, service: FakeService) -> None:
    for name in ("-x", "a@1", "a b", "n" * 97):
        fault_of(client.put(f"/v1/adapters/{name}", content=tar_of(adapter_files())), 422)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_tar_with_bytes_changed_is_read_or_refused(data: st.DataObject) -> None:
    good = {HEADER: b"{}" * 100, TENSORS: b"x" * 900}
    tar = bytearray(tar_of(good))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(tar) - 1))
        tar[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RequestError):
        files = files_in_tar(bytes(tar[: data.draw(st.integers(1, len(tar)))]))
        assert sorted(files) == [HEADER, TENSORS]
