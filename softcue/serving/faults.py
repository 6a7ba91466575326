"""Faults: every error as a status and a JSON body, in the words of text-embeddings-inference."""

from collections.abc import Mapping

from pydantic_core import ValidationError, to_json
from starlette.responses import Response

from softcue.errors import (
    AdapterError,
    BatchError,
    BusyError,
    ClosingError,
    DeadlineError,
    RequestError,
    SoftcueError,
    UnknownAdapterError,
    WriteError,
    short,
    visible,
)

LONGEST_FAULT = 1_000  # characters of a message
FAULTS_TOLD = 3  # faults of one body that are told

# the first that an error is an instance of
STATUS: tuple[tuple[type[SoftcueError], int, str], ...] = (
    (UnknownAdapterError, 404, "NotFound"),
    (BusyError, 429, "Overloaded"),
    (DeadlineError, 504, "Timeout"),
    (ClosingError, 503, "Unhealthy"),
    (WriteError, 500, "Backend"),
    (RequestError, 422, "Validation"),
    (BatchError, 422, "Validation"),
    (SoftcueError, 500, "Backend"),  # a stored adapter that is damaged, for example
)


class Refusal(SoftcueError):
    """A request that HTTP's own rules refuse: its size, its token, its address."""

    def __init__(
        self, status: int, error_type: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.error_type, self.headers = status, error_type, dict(headers or {})


def fault_response(error: SoftcueError) -> Response:
    """Return the response for an error."""
    headers: dict[str, str] = {}
    if isinstance(error, Refusal):
        status, error_type, headers = error.status, error.error_type, error.headers
    else:
        status, error_type = next((status, word) for kind, status, word in STATUS if isinstance(error, kind))
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    return json_response({"error": visible(error)[:LONGEST_FAULT], "error_type": error_type}, status, headers)


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response that holds a value as JSON."""
    return Response(to_json(value, inf_nan_mode="null"), status, headers, "application/json")


def refused_upload(error: AdapterError) -> RequestError:
    """Return what to raise where an adapter that came with the request is no good: the client's fault."""
    return RequestError(str(error))


def body_fault(error: ValidationError) -> RequestError:
    """Return the faults of a body in words: where, what is wrong, what came."""
    found = []
    for fault in error.errors(include_url=False, include_context=False)[:FAULTS_TOLD]:
        where = ".".join(str(part) for part in fault["loc"]) or "the body"
        found.append(f"{where}: {fault['msg']}" + (f", not {short(fault['input'])}" if fault["loc"] else ""))
    more = error.error_count() - len(found)
    return RequestError("; ".join(found) + (f"; and {more:,} more" if more > 0 else ""))
