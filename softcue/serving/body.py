"""Bodies: read within a limit and a time, and work that stops when its client has gone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import TypeVar

from starlette.types import Receive

from softcue.errors import SoftcueError
from softcue.serving.faults import Refusal

_T = TypeVar("_T")
DRAINED = 8  # times the limit that is read and thrown away, so that the client reads why it was refused


@dataclass(frozen=True)
class Limits:
    """What one request may hold."""

    payload: int = 2_000_000  # bytes of a body, as in text-embeddings-inference
    rows: int = 128  # texts, and adapters for one text
    upload: int = 64 * 2**20  # bytes of an adapter, packed and unpacked
    seconds: float = 30.0  # for a body to arrive
    upload_seconds: float = 300.0  # for an adapter to arrive
    uploads: int = 4  # adapters that arrive at a time; others wait


class GoneError(SoftcueError):
    """A request whose client did not wait for the answer."""


async def read_body(receive: Receive, limits: Limits) -> bytes:
    """Return a whole body. Raises Refusal for one that is too long or too slow, GoneError."""
    parts, size = [], 0
    async for part in body_parts(receive, limits.seconds):
        size += len(part)
        if size <= limits.payload:
            parts.append(part)
        elif size > DRAINED * limits.payload:
            break
    if size > limits.payload:
        raise too_large(limits.payload)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def body_parts(receive: Receive, seconds: float) -> AsyncIterator[bytes]:
    """Yield what comes of a body within so many seconds. Raises Refusal, GoneError."""
    end = asyncio.get_running_loop().time() + seconds
    more = True
    while more:
        try:
            async with asyncio.timeout_at(end):
                message = await receive()
        except TimeoutError:
            raise Refusal(
                408,
                "Validation",
                f"the body did not arrive within {seconds:g} seconds",
                {"Connection": "close"},
            ) from None
        if message["type"] == "http.disconnect":
            raise GoneError("the client went away before its body was there")
        more = message.get("more_body", False)
        yield message.get("body", b"")


def too_large(limit: int) -> Refusal:
    """Return the refusal of a body above the limit."""
    return Refusal(
        413,
        "Validation",
        f"the body has more than {limit:,} bytes; send less at a time",
        {"Connection": "close"},
    )


async def unless_gone(receive: Receive, work: Awaitable[_T]) -> _T:
    """Await work that is cancelled when the client goes away. Raises GoneError then."""
    own = asyncio.current_task()
    assert own is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        own.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if not gone:
            raise
        own.uncancel()
        raise GoneError("the client did not wait for the answer") from None
    finally:
        watcher.cancel()
