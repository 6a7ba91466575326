"""Pages: health, numbers, the OpenAPI document as a page, and the page at /."""

import asyncio
import html
import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from softcue import __version__
from softcue.serving.endpoints import Endpoint, Handler, Site
from softcue.serving.faults import Refusal, json_response
from softcue.serving.replies import ref

PAGE_FILES = {
    "index.html": "text/html",
    "page.js": "text/javascript",
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
}
SELF_ONLY = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
# the document's page runs no script and loads nothing
NOTHING = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "pre{background:#f4f4f4;padding:.8em;overflow:auto}code{font-size:1.05em}"
    "h2{border-top:1px solid #ccc;padding-top:1em}"
)


async def show_health(site: Site, request: Request) -> Response:
    """Say that the process answers."""
    return json_response({"status": "ok"})


async def show_live(site: Site, request: Request) -> Response:
    """Say that the process answers, as the Open Inference Protocol does."""
    return json_response({"live": True})


async def show_ready(site: Site, request: Request) -> Response:
    """Say that requests are answered: a server listens only when its encoder is loaded."""
    return json_response({"ready": True})


async def show_info(site: Site, request: Request) -> Response:
    """Say what is served, and within which limits."""
    return json_response(
        {
            "model_id": site.source.backbone,
            "model_sha": site.source.fingerprint,
            "version": __version__,
            "max_client_batch_size": site.limits.rows,
            "payload_limit": site.limits.payload,
            "upload_limit": site.limits.upload,
            "adapters": await asyncio.to_thread(site.source.count),
            "service": dict(site.service.facts()),
        }
    )


async def show_metrics(site: Site, request: Request) -> Response:
    """Return all counters as Prometheus reads them."""
    return Response(site.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def page_file(name: str) -> Handler:
    """Return the handler of one file of the page."""

    async def show(site: Site, request: Request) -> Response:
        data = read_page_file(name)
        if data is None:
            raise Refusal(404, "NotFound", f"this installation has no {name}; the routes are at /docs")
        return Response(data, headers=SELF_ONLY, media_type=PAGE_FILES[name])

    return show


@cache
def read_page_file(name: str) -> bytes | None:
    """Return a file of the page at /, or None if it is not installed."""
    file = files("softcue.serving") / "page" / name
    return file.read_bytes() if file.is_file() else None


def docs_endpoints(document: dict[str, Any]) -> tuple[Endpoint, Endpoint]:
    """Return the routes of the OpenAPI document, as JSON and as a page."""
    page = docs_page(document)

    async def show_document(site: Site, request: Request) -> Response:
        return json_response(document)

    async def show_docs(site: Site, request: Request) -> Response:
        return Response(page, headers=NOTHING, media_type="text/html")

    return (
        Endpoint("GET", "/openapi.json", show_document, "The OpenAPI document", scope=None),
        Endpoint("GET", "/docs", show_docs, "The OpenAPI document as a page", scope=None),
    )


def docs_page(document: dict[str, Any]) -> str:
    """Return the OpenAPI document as a page of HTML that needs nothing else."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>{html.escape(info['title'])}</title><style>{STYLE}</style>",
        f"<h1>{html.escape(info['title'])} {html.escape(info['version'])}</h1>",
        f"<p>{html.escape(info['description'])} As JSON: <a href=/openapi.json>openapi.json</a>.</p>",
    ]
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            parts += _docs_of(path, verb.upper(), operation, document)
    return "".join(parts)


def _docs_of(path: str, verb: str, operation: dict[str, Any], document: dict[str, Any]) -> Iterable[str]:
    yield f"<h2><code>{verb} {html.escape(path)}</code></h2><p>{html.escape(operation['summary'])}.</p>"
    for parameter in operation["parameters"]:
        about = html.escape(f"{parameter['in']}: {parameter['description']}")
        yield f"<p><code>{html.escape(parameter['name'])}</code> ({about})</p>"
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: {html.escape(media)}</p>"
        if "example" in body:
            yield f"<pre>{html.escape(json.dumps(body['example']))}</pre>"
            name = body["schema"]["$ref"].rpartition("/")[2]
            schema = html.escape(json.dumps(document["components"]["schemas"][name], indent=1))
            yield f"<details><summary>{html.escape(name)}</summary><pre>{schema}</pre></details>"
    for status, answer in operation["responses"].items():
        yield f"<p>{status}: {html.escape(answer['description'])}</p>"


STATE_ENDPOINTS = (
    Endpoint("GET", "/health", show_health, "Say that the process answers", scope=None, reply=ref("Live")),
    Endpoint(
        "GET", "/ping", show_health, "Say that the process answers (SageMaker)", scope=None, reply=ref("Live")
    ),
    Endpoint("GET", "/ready", show_ready, "Say that requests are answered", scope=None, reply=ref("Live")),
    Endpoint(
        "GET",
        "/v2/health/live",
        show_live,
        "Say that the process answers (KServe)",
        scope=None,
        reply=ref("Live"),
    ),
    Endpoint(
        "GET",
        "/v2/health/ready",
        show_ready,
        "Say that requests are answered (KServe)",
        scope=None,
        reply=ref("Live"),
    ),
    Endpoint("GET", "/info", show_info, "Say what is served, and within which limits", reply=ref("Live")),
    Endpoint(
        "GET",
        "/metrics",
        show_metrics,
        "Counters for Prometheus",
        reply={"type": "string"},
        media="text/plain",
    ),
)
PAGE_ENDPOINTS = tuple(
    Endpoint(
        "GET", "/" if name == "index.html" else f"/{name}", page_file(name), "A file of the page", scope=None
    )
    for name in PAGE_FILES
)
