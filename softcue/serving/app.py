"""The application: all routes over a service and a source of adapters."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from softcue import __version__
from softcue.bank.source import Source
from softcue.serving import answer, manage, pages
from softcue.serving.access import Access
from softcue.serving.body import Limits
from softcue.serving.endpoints import Site, add_endpoints, openapi_of
from softcue.serving.faults import Refusal, fault_response
from softcue.serving.gate import Gate
from softcue.serving.metrics import Metrics
from softcue.serving.needs import Answering
from softcue.serving.replies import schemas

ABOUT = "Any mix of tasks over one frozen encoder; every request names its adapter."


def make_app(
    service: Answering, source: Source, access: Access | None = None, limits: Limits | None = None
) -> FastAPI:
    """Return the HTTP server as an ASGI application; when it shuts down, it closes the service."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    limits = limits or Limits()
    metrics = Metrics(service.facts)
    site = Site(service, source, access or Access(), limits, metrics, asyncio.Semaphore(limits.uploads))
    app = FastAPI(
        title="softcue",
        version=__version__,
        description=ABOUT,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        exception_handlers={HTTPException: _answer_http},
    )
    endpoints = (*answer.ANSWER_ENDPOINTS, *manage.MANAGE_ENDPOINTS, *pages.STATE_ENDPOINTS)
    info = {"title": app.title, "version": app.version, "description": app.description}
    document = openapi_of(endpoints, info, schemas())
    app.openapi_schema = document
    add_endpoints(app, site, (*endpoints, *pages.docs_endpoints(document), *pages.PAGE_ENDPOINTS))
    app.add_middleware(Gate, metrics=metrics)
    return app


async def _answer_http(request: Request, error: Exception) -> Response:
    """Answer what no route takes in the shape of all errors."""
    assert isinstance(error, HTTPException)
    words = {
        404: "no such route; GET /docs lists them",
        405: "this route takes another verb; GET /docs says which",
    }
    message = words.get(error.status_code, str(error.detail))
    error_type = "NotFound" if error.status_code == 404 else "Validation"
    return fault_response(Refusal(error.status_code, error_type, message, error.headers))
