"""softcue push: uploads an adapter's folder to a repository of the Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer

from softcue.cli.flags import JsonFlag, PluginsFlag, load_plugins


def push_command(
    adapter: Annotated[Path, typer.Argument(help="The adapter's folder.")],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="The repository; it is created if there is none.")
    ],
    private: Annotated[
        bool | None,
        typer.Option(help="Make a new repository private or public; default: the owner's setting."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="The branch; it is created if there is none.")] = None,
    plugin: PluginsFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Upload an adapter to the Hugging Face hub.

    One commit holds the adapter and a model card. The token is the hub's own (HF_TOKEN).
    """
    import sys

    from softcue.cli.lines import print_json, print_line
    from softcue.interop.hub import push_folder

    load_plugins(plugin)
    done = push_folder(adapter, repository, private=private, revision=revision)
    if as_json:
        print_json(done.to_json())
        return
    for note in done.notes:
        print_line(f"note: {note}", file=sys.stderr)
    print_line(f"pushed {adapter} to {done.url}: {', '.join(done.files)}")
