"""A small server that stands in for softcue's: the page's files, and answers made up for them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import softcue

PAGE = Path(softcue.__file__).parent / "serving" / "page"
TYPES = {
    "index.html": "text/html",
    "page.js": "text/javascript",
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
}
HOSTILE = "<img src=x onerror=alert(1)>"
TOKEN = "a-token-of-sixteen"
TEXT = "🙂🙂 Ada Lovelace wrote to Charles Babbage in London about the Analytical Engine on Monday."

TOPICS = {f"topic {number:03}": 0.4 / 2 ** (number + 1) for number in range(150)}
TOPICS["science & technology"], TOPICS["history"], TOPICS["letters"] = 0.47, 0.11, 0.02
SCORES = {
    "spam": {"ham": 0.973, "spam": 0.027},
    "topic": TOPICS,
    "hostile": {HOSTILE: 0.9, "plain": 0.1},
    "pairs": {"entailment": 0.81, "neutral": 0.15, "contradiction": 0.04},
}
FOUND = (
    ("PER", "Ada Lovelace", 0.998),
    ("PER", "Charles Babbage", 0.996),
    ("LOC", "London", 0.991),
    ("MISC", "Analytical Engine", 0.874),
    ("DATE", "Monday", 0.662),
)
KINDS = {
    **dict.fromkeys(SCORES, "classify"),
    "ner": "tag",
    "rate": "score",
    "next-step": "choice",
    **{f"ticket-{number:02}": "classify" for number in range(30)},
}


class Trouble(Exception):
    """A refusal: status, words, headers."""


class Stand(ThreadingHTTPServer):
    """What a test sets, and what the page has sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.kinds: dict[str, str] = dict(KINDS)
        self.token: str | None = None
        self.trouble: Trouble | None = None
        self.asked: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def entry(self, asked: str) -> dict[str, Any]:
        name, _, version = asked.partition("@")
        if name not in self.kinds or version not in ("", "3", "prod"):
            raise Trouble(404, f"no adapter {asked} here")
        labels = len(SCORES.get(name, "no")) if self.kinds[name] == "classify" else 1
        return {
            "name": name,
            "version": 3,
            "full_name": f"{name}@3",
            "method": "pasta",
            "kind": self.kinds[name],
            "labels": labels,
            "aliases": ["prod"],
        }

    def page(self, query: dict[str, list[str]]) -> dict[str, Any]:
        search, after, limit = (query.get(key, [""])[0] for key in ("search", "after", "limit"))
        names = [name for name in sorted(self.kinds) if search in name and name > after]
        shown = names[: int(limit)]
        after_that = shown[-1] if len(names) > len(shown) else None
        return {"adapters": [*map(self.entry, shown)], "next": after_that, "count": len(self.kinds)}

    def predict(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        if self.trouble is not None:
            raise self.trouble
        return {"results": [self.answer(name, body["inputs"]) for name in body["adapters"]]}

    def answer(self, asked: str, inputs: str | dict[str, Any]) -> dict[str, Any]:
        entry = self.entry(asked)
        given = {"text": inputs} if isinstance(inputs, str) else inputs
        wanted = {"text"} | {"pairs": {"text_pair"}, "next-step": {"choices"}}.get(entry["name"], set())
        if set(given) != wanted:
            raise Trouble(422, f"gives {', '.join(given)}; expected {' and '.join(sorted(wanted))}")
        return {"adapter": entry["full_name"], "kind": entry["kind"], **value_of(entry, given)}


def value_of(entry: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of an adapter as softcue/answering gives it."""
    if entry["kind"] == "score":
        return {"value": 3.7182}
    if entry["kind"] == "choice":
        shares = [0.7 / (place + 1) for place in range(len(given["choices"]))][::-1]
        return {"choice": len(shares) - 1, "scores": shares}
    if entry["kind"] == "tag":
        text = given["text"]
        spans = [(kind, word, score, text.find(word)) for kind, word, score in FOUND if word in text]
        return {
            "entities": [
                {
                    "entity_group": kind,
                    "score": score,
                    "word": word,
                    "start": start,
                    "end": start + len(word),
                }
                for kind, word, score, start in spans
            ]
        }
    scores = SCORES.get(entry["name"], {"yes": 0.6, "no": 0.4})
    best = max(scores, key=lambda label: scores[label])
    return {"label": best, "score": scores[best], "scores": scores}


class Handler(BaseHTTPRequestHandler):
    """The routes that the page uses, and no other."""

    server: Stand

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        name = address.path.removeprefix("/") or "index.html"
        if name in TYPES:
            self.send(200, (PAGE / name).read_bytes(), TYPES[name])
        elif address.path == "/v1/adapters":
            self.reply(lambda: self.server.page(parse_qs(address.query)))
        elif address.path.startswith("/v1/adapters/"):
            self.reply(lambda: self.server.entry(unquote(address.path.removeprefix("/v1/adapters/"))))
        else:
            self.send(404, b"")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.reply(lambda: self.server.predict(body))

    def reply(self, say: Any) -> None:
        try:
            if self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}":
                raise Trouble(401, "expected a token")
            self.send(200, json.dumps(say()).encode())
        except Trouble as trouble:
            status, words, *headers = trouble.args
            self.send(status, json.dumps({"error": words, "error_type": "Any"}).encode(), headers=headers)

    def send(self, status: int, data: bytes, kind: str = "application/json", headers: Any = ()) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Security-Policy", "default-src 'self'")
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@contextmanager
def standing() -> Iterator[Stand]:
    """Serve until the block ends."""
    stand = Stand()
    thread = Thread(target=stand.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield stand
    finally:
        stand.shutdown()
        stand.server_close()
        thread.join()
