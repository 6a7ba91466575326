"""Listening: an application on a socket, until SIGTERM or Ctrl-C, and what was accepted is answered."""

import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from softcue.errors import RequestError
from softcue.serving.logs import start_logging

IDLE = 65  # seconds that a connection without a request is kept; load balancers' usual 60 are less
BACKLOG = 2_048


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


def bind(host: str, port: int) -> socket.socket:
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
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=max(1, round(drain)),
        backlog=BACKLOG,
    )
    start_logging()
    _Listener(config, ready).run(sockets=[bound])
