"""Listening: an application on a socket, until SIGTERM or Ctrl-C, and what was accepted is answered."""

import asyncio
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from softcue.errors import RequestError
from softcue.serving.logs import start_logging

IDLE = 65  # seconds that a connection without a request is kept; load balancers' usual 60 are less
BACKLOG = 2_048
# of what comes before a body; the first piece, which may hold a body too, is 256 KiB at most
HEAD_BYTES, HEAD_SECONDS = 2**18, 30.0


class _Bounded(HttpToolsProtocol):
    """uvicorn's HTTP, which ends connections whose headers do not: too many bytes of them, or too slow."""

    _room = HEAD_BYTES
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, within the room of a head."""
        if self._timer is not None:
            self._room -= len(data)
            if self._room < 0:
                self.transport.close()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Read a head."""
        super().on_message_begin()
        if self._timer is None:  # the connection was kept
            self._expect_head()

    def on_headers_complete(self) -> None:
        """Read a body."""
        self._end_head()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._room = HEAD_BYTES
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _end_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Listener(uvicorn.Server):
    """A server that says when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started:
            self.ready()


def bind_to(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address; port 0 takes a free one. Raises RequestError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RequestError(
            f"cannot listen on {host}:{port} ({reason}); give another --host or --port"
        ) from None
    return bound


def url_of(bound: socket.socket) -> str:
    """Return the address of a bound socket as one would type it."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(app: ASGIApp, bound: socket.socket, ready: Callable[[], None], drain: float) -> None:
    """Serve until SIGTERM or SIGINT; then refuse new connections and answer what was accepted.

    ready: called once requests are answered. drain: seconds at most for what was accepted.
    """
    config = uvicorn.Config(
        app,
        http=_Bounded,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=max(1, round(drain)),
        backlog=BACKLOG,
    )
    start_logging()
    _Listener(config, ready).run(sockets=[bound])
