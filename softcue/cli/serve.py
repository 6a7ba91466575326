"""softcue serve: answers for any mix of adapters over one encoder, by HTTP."""

import re
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from softcue.cli.flags import DeviceFlag, PluginsFlag, PrecisionFlag, load_plugins
from softcue.errors import RequestError, short

MEMORY_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
DRAIN = 5.0  # seconds after the deadline for sending the last answers when the server stops


def serve_command(
    folder: Annotated[Path, typer.Argument(help="A bank, a folder of adapter folders, or hf:OWNER/NAME.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; if other machines can reach it, tokens are needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0: any free one.")] = 8000,
    memory: Annotated[str, typer.Option(help="Memory for adapters, as in 512M or 2G.")] = "1G",
    pin: Annotated[
        list[str] | None, typer.Option(help="An adapter that always stays in memory. May be repeated.")
    ] = None,
    read_token_file: Annotated[
        Path | None, typer.Option(help="File of access tokens for asking, one on each line.")
    ] = None,
    manage_token_file: Annotated[
        Path | None, typer.Option(help="File of access tokens for adding and removing adapters too.")
    ] = None,
    deadline: Annotated[
        float, typer.Option(min=0.01, help="Seconds until a request must be answered.")
    ] = 30.0,
    batch_rows: Annotated[int, typer.Option(min=1, help="Most tokens in one forward pass.")] = 4_096,
    delay: Annotated[
        float, typer.Option(min=0, help="Milliseconds that a request may wait for others to join its batch.")
    ] = 2.0,
    queue: Annotated[
        int, typer.Option(min=1, help="Most rows that may wait; further requests get 429.")
    ] = 1_024,
    ray: Annotated[
        str | None, typer.Option(help="Run replicas on a Ray cluster: host:port, auto, or local.")
    ] = None,
    replicas: Annotated[
        str, typer.Option(help="With --ray: number of replicas, as in 2, or 1-4 by load.")
    ] = "1",
    backbone: Annotated[str | None, typer.Option(help="The encoder; default: the adapters' own.")] = None,
    plugin: PluginsFlag = None,
    precision: PrecisionFlag = "auto",
    device: DeviceFlag = "cpu",
) -> None:
    """Serve every adapter of a folder or bank over HTTP."""
    import os

    need_server()
    from softcue.adapter.remote import is_remote
    from softcue.cli.lines import print_line
    from softcue.serving.access import check_exposed, gather_access
    from softcue.serving.listen import bind_to, listen, url_of
    from softcue.serving.opening import ServerSettings, open_server
    from softcue.serving.replicas import parse_replicas, serve_replicas

    load_plugins(plugin)
    access = gather_access(read_token_file, manage_token_file, os.environ)
    check_exposed(host, access)
    settings = ServerSettings(
        folder=folder if is_remote(folder) else folder.absolute(),
        backbone=backbone,
        precision=precision,
        device=device,
        memory=bytes_in(memory),
        batch_rows=batch_rows,
        delay=delay / 1000,
        queue=queue,
        deadline=deadline,
        pinned=tuple(pin or ()),
        plugins=tuple(str(Path(one).absolute()) for one in plugin or ()),
    )
    if ray is not None:

        def told(name: str) -> None:
            print_line(f"serving {name} with {replicas} replicas at http://{host}:{port}")
            sys.stdout.flush()

        serve_replicas(settings, access, ray, (host, port), parse_replicas(replicas), told)
        return
    with closing(bind_to(host, port)) as bound:
        opened = open_server(settings, access)

        def ready() -> None:
            count, url = opened.source.count(), url_of(bound)
            print_line(f"serving {count:,} adapter{'s'[: count != 1]} of {opened.backbone} at {url}")
            sys.stdout.flush()

        listen(opened.app, bound, ready, deadline + DRAIN)


def need_server() -> None:
    """Raise RequestError that says what to install if a package for serving is missing."""
    for module in ("fastapi", "uvicorn", "prometheus_client"):
        if find_spec(module) is None:
            raise RequestError(
                f"serving needs {module}, which is not installed; run pip install 'softcue[serve]'"
            )


def bytes_in(size: str) -> int:
    """Return the bytes of "512M" or "2G". Raises RequestError."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)\s*([KMG]?)i?B?", size.strip(), re.IGNORECASE)
    if not found:
        raise RequestError(f"--memory is {short(size)}; expected a number with K, M or G, as in 512M")
    return int(float(found[1]) * MEMORY_UNITS[found[2].upper()])
