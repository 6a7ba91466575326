"""Endpoints: a route of the server with who may take it, and the light path from socket to handler."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from softcue.bank.entry import ALIAS, NAME
from softcue.bank.source import Source
from softcue.errors import SoftcueError
from softcue.serving.access import READ_SCOPE, Access
from softcue.serving.body import GoneError, Limits
from softcue.serving.faults import fault_response
from softcue.serving.logs import LOGGER
from softcue.serving.metrics import Metrics
from softcue.serving.needs import Answering

LOG_NOTES = "softcue.told"  # key of the ASGI scope: what a handler says to the log
GONE = 499  # what the log says of a request whose client went away
_PARAMETER = re.compile(r"{(\w+)}")


@dataclass(frozen=True)
class Site:
    """What the routes of one server share."""

    service: Answering
    source: Source
    access: Access
    limits: Limits
    metrics: Metrics
    uploads: asyncio.Semaphore


Handler = Callable[[Site, Request], Awaitable[Response]]


@dataclass(frozen=True)
class Endpoint:
    """One route: how it is asked for, what answers, and what the OpenAPI document says of it."""

    verb: str
    path: str
    handler: Handler
    about: str
    scope: str | None = READ_SCOPE  # None: open to everyone
    body: dict[str, Any] | None = None  # of the document: media type -> schema and examples
    reply: dict[str, Any] = field(default_factory=dict)  # the schema of what it answers
    query: tuple[dict[str, Any], ...] = ()
    media: str = "application/json"
    status: int = 200
    refusals: tuple[int, ...] = ()  # beyond those that every endpoint with such a scope and body has


class EndpointApp:
    """An endpoint as an ASGI application: it checks the token, answers, and answers errors."""

    def __init__(self, site: Site, endpoint: Endpoint) -> None:
        self.site, self.endpoint = site, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        told = scope.setdefault(LOG_NOTES, {})
        told["route"] = self.endpoint.path
        try:
            if self.endpoint.scope is not None:
                self.site.access.check(self.endpoint.scope, dict(scope["headers"]))
            response = await self.endpoint.handler(self.site, Request(scope, receive))
        except GoneError:
            told["status"] = GONE
            return
        except SoftcueError as error:
            response = fault_response(error)
            if response.status_code == 500:
                LOGGER.warning("%s", error)
        await response(scope, receive, send)


def add_endpoints(app: Starlette, site: Site, endpoints: Iterable[Endpoint]) -> None:
    """Let an application answer routes."""
    app.router.routes += [
        Route(endpoint.path, EndpointApp(site, endpoint), methods=[endpoint.verb]) for endpoint in endpoints
    ]


def openapi_of(
    endpoints: Iterable[Endpoint], info: dict[str, str], schemas: dict[str, Any]
) -> dict[str, Any]:
    """Return the OpenAPI document of routes.

    info: title, version and description. schemas: those that the endpoints refer to, by name.
    """
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        operation: dict[str, Any] = {
            "summary": endpoint.about,
            "operationId": re.sub(r"\W+", "_", f"{endpoint.verb.lower()}{endpoint.path}").strip("_"),
            "parameters": [
                *(_path_parameter(name) for name in _PARAMETER.findall(endpoint.path)),
                *endpoint.query,
            ],
            "responses": {
                str(endpoint.status): {
                    "description": "Answered.",
                    "content": {endpoint.media: {"schema": endpoint.reply}},
                },
                **{str(status): _refusal(status) for status in _refusals(endpoint)},
            },
        }
        if endpoint.body is not None:
            operation["requestBody"] = {"required": True, "content": endpoint.body}
        if endpoint.scope is not None:
            operation["security"] = [{"token": []}, {}]
        paths.setdefault(endpoint.path, {})[endpoint.verb.lower()] = operation
    security = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": info,
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": security},
    }


def _refusals(endpoint: Endpoint) -> list[int]:
    """Return the statuses of an endpoint's refusals."""
    scope = (401, 403) if endpoint.scope is not None else ()
    body = (408, 413, 422) if endpoint.body is not None else ()
    named = (404, 422) if "{" in endpoint.path else ()
    return sorted({*scope, *body, *named, *endpoint.refusals})


REASONS = {
    401: "No token, or one that is not known.",
    403: "A token that may not do this; or, without tokens, another machine's name.",
    404: "No such adapter, version or alias.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    422: "Something in the request is not as it must be.",
    429: "The queue is full; Retry-After says when to come again.",
    503: "The server is shutting down.",
    504: "Not answered within the deadline.",
}

# of paths: what it is, and the pattern of what it can be
PARAMETERS = {
    "adapter": (
        'A name: "spam" (the newest), "spam@3" or "spam@prod".',
        f"{NAME.pattern}(@([1-9][0-9]{{0,11}}|{ALIAS.pattern}))?",
    ),
    "name": ('A name, as in "spam".', NAME.pattern),
    "alias": ('An alias, as in "prod".', ALIAS.pattern),
}


def _refusal(status: int) -> dict[str, Any]:
    return {
        "description": REASONS[status],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Fault"}}},
    }


def _path_parameter(name: str) -> dict[str, Any]:
    about, pattern = PARAMETERS[name]
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": about,
        "schema": {"type": "string", "pattern": f"^{pattern}$"},
    }
