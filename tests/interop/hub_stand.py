"""A stand-in for the Hugging Face hub: the part of its HTTP interface that an adapter's way there and back
takes, on this machine.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest

TOKEN = "hf_right"


class HubRepository:
    """Branches, and the files of their commits."""

    def __init__(self, private: bool = False) -> None:
        self.private = private
        self.commits: dict[str, dict[str, bytes]] = {}
        self.branches: dict[str, str] = {"main": self.commit({})}

    def commit(self, files: dict[str, bytes]) -> str:
        number = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[number] = files
        return number

    def put(self, branch: str = "main", **files: bytes) -> None:
        """Add files to a branch; `__` in a name stands for a dot."""
        named = {name.replace("__", "."): data for name, data in files.items()}
        self.branches[branch] = self.commit({**self.commits[self.branches[branch]], **named})

    def files(self, branch: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches[branch]]


class HubStand:
    """The hub's state, and what was asked of it."""

    def __init__(self) -> None:
        self.repositories: dict[str, HubRepository] = {}
        self.asked: list[str] = []  # "HEAD /o/n/resolve/main/file"
        self.cut: str | None = None  # of a file that ends with this, half is sent


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand: HubStand

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def reply(self, status: int, value: Any = None, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def fail(self, status: int, code: str = "") -> None:
        self.reply(status, {"error": code}, {"X-Error-Code": code} if code else {})

    @property
    def known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def found(self, name: str) -> HubRepository | None:
        """The repository, or None once its absence has been answered."""
        repository = self.stand.repositories.get(name)
        if repository is None or (repository.private and not self.known):
            self.fail(404 if self.known else 401, "RepoNotFound")
            return None
        return repository

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.stand.asked.append(f"{self.command} {path}")
        owner, name, *rest = path.strip("/").split("/")
        if rest[:1] != ["resolve"]:
            self.fail(404)
            return
        repository = self.found(f"{owner}/{name}")
        if repository is None:
            return
        commit = repository.branches.get(rest[1], rest[1])
        file = "/".join(rest[2:])
        if commit not in repository.commits:
            self.fail(404, "RevisionNotFound")
        elif file not in repository.commits[commit]:
            self.fail(404, "EntryNotFound")
        else:
            data = repository.commits[commit][file]
            told = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commit}
            if self.command == "GET" and self.stand.cut is not None and file.endswith(self.stand.cut):
                self.send_response(200)
                for key, text in {"Content-Length": str(len(data)), **told}.items():
                    self.send_header(key, text)
                self.end_headers()
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
                return
            self.reply(200, data, told)

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.stand.asked.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            body = b"".join(self.chunks())
        if path == "/api/validate-yaml":
            self.reply(200, {"errors": [], "warnings": []})
            return
        if not self.known:
            self.fail(401)
            return
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            is_new = name not in self.stand.repositories
            if is_new:
                self.stand.repositories[name] = HubRepository(asked.get("visibility") == "private")
            self.reply(200 if is_new else 409, {"url": f"http://{self.headers['Host']}/{name}", "name": name})
            return
        _, kind, owner, name, what, revision = path.strip("/").split("/", 5)
        assert kind == "models"
        repository = self.found(f"{owner}/{name}")
        if repository is None:
            return
        if what == "branch":
            is_new = revision not in repository.branches
            repository.branches.setdefault(revision, repository.branches["main"])
            self.reply(200 if is_new else 409, {})
        elif revision not in repository.branches:
            self.fail(404, "RevisionNotFound")
        elif what == "preupload":
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": one, "uploadMode": "regular", "shouldIgnore": False} for one in files]
            self.reply(200, {"files": modes})
        else:
            assert what == "commit"
            lines = [json.loads(line) for line in body.splitlines()]
            added = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            commit = repository.commit({**repository.files(revision), **added})
            repository.branches[revision] = commit
            url = f"http://{self.headers['Host']}/{owner}/{name}/commit/{commit}"
            self.reply(200, {"commitUrl": url, "commitOid": commit, "success": True})

    def chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()


@contextmanager
def running(stand: HubStand) -> Iterator[str]:
    """Serve a stand-in, and yield its address."""
    handler = type("_OwnHandler", (_Handler,), {"stand": stand})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(name="hub")
def make_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStand]:
    """The hub's stand-in, with an empty cache of its own, for whom a token is set."""
    stand = HubStand()
    with running(stand) as url:
        for name, value in {
            "ENDPOINT": url,
            "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_PROGRESS_BARS": True,
        }.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        huggingface_hub.close_session()
        yield stand
    huggingface_hub.close_session()
