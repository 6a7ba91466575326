"""Gate: what every request passes: an id, the log, the counters, and no fault without an answer."""

import logging
import re
import secrets
import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from softcue.serving.endpoints import LOG_NOTES
from softcue.serving.faults import json_response
from softcue.serving.logs import LOGGER, log_fields
from softcue.serving.metrics import Metrics

SANE_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")
SHOWN_PATH = 200  # characters of a path in the log
NO_ROUTE = "other"  # the route of what was found on none


class Gate:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        name = _id_of(scope)
        told: dict[str, Any] = {}
        scope[LOG_NOTES] = told
        started = 0

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = name
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        self.metrics.under_way.inc()
        try:
            await self.app(scope, receive, sending)
        except Exception:  # our own fault: the log has the traceback, the client has the request's id
            LOGGER.exception("a request failed", extra={"fields": {"request_id": name}})
            if not started:
                fault = {"error": f"the server failed; its log says why, at {name}", "error_type": "Backend"}
                await json_response(fault, 500)(scope, receive, sending)
        finally:
            self.metrics.under_way.dec()
            status = told.pop("status", started or 500)
            seconds = time.perf_counter() - began
            route = told.pop("route", NO_ROUTE)
            self.metrics.count_request(scope["method"], route, status, seconds)
            log_fields(
                logging.INFO,
                "request",
                request_id=name,
                verb=scope["method"],
                path=scope["path"][:SHOWN_PATH],
                status=status,
                milliseconds=round(seconds * 1000, 2),
                **told,
            )


def _id_of(scope: Scope) -> str:
    """Return the id that the client gave its request, where it is sane, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            if SANE_ID.fullmatch(given):
                return str(given)
    return secrets.token_hex(8)
