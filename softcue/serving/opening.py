"""Opening a server: from a folder and settings to an application that answers."""

from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from softcue.bank.opening import open_source
from softcue.bank.source import Source
from softcue.base import open_base
from softcue.errors import RequestError
from softcue.plugins import load_plugin
from softcue.serving.access import Access
from softcue.serving.app import make_app
from softcue.serving.service import Service


@dataclass(frozen=True)
class ServerSettings:
    """What a server is started with; it travels to replicas on other machines."""

    folder: Path  # a bank, or a folder of adapter folders
    backbone: str | None  # None: the one that the adapters name
    precision: str
    device: str
    memory: int  # bytes of adapters in seats
    batch_rows: int  # tokens in one forward pass
    delay: float  # seconds that a request may wait for others
    queue: int  # requests that may wait
    deadline: float  # seconds in which a request is answered
    pinned: tuple[str, ...]
    plugins: tuple[str, ...]


@dataclass(frozen=True)
class OpenedServer:
    """An application with what it serves."""

    app: FastAPI
    source: Source
    backbone: str


def open_source_of(settings: ServerSettings) -> tuple[Source, str]:
    """Return the adapters and the backbone to load for them. Raises RequestError."""
    source = open_source(settings.folder)
    name = settings.backbone or source.backbone
    if not name:
        raise RequestError(
            f"{settings.folder} holds no adapter yet that says which encoder to load; give --backbone"
        )
    return source, name


def open_server(settings: ServerSettings, access: Access) -> OpenedServer:
    """Load the encoder and return an application that answers. Raises SoftcueError."""
    for plugin in settings.plugins:
        load_plugin(plugin)
    source, name = open_source_of(settings)
    service = Service(
        open_base(name, settings.precision, settings.device),
        source,
        memory=settings.memory,
        budget=settings.batch_rows,
        delay=settings.delay,
        room=settings.queue,
        deadline=settings.deadline,
        pinned=settings.pinned,
    )
    return OpenedServer(make_app(service, source, access), source, name)
