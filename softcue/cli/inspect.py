"""`softcue inspect`: a look inside an adapter, as a picture and as JSON."""

from pathlib import Path
from typing import Annotated, Any

import typer

from softcue.cli.flags import JsonFlag, PluginsFlag, RootFlag, load_plugins


def inspect_command(
    view: Annotated[str, typer.Argument(help="attention, gates, selection, cell or plan.")],
    adapter: Annotated[Path, typer.Argument(help="The adapter's folder.")],
    data: Annotated[str, typer.Argument(help="Texts to look with, as for eval.")],
    out: Annotated[Path, typer.Option(help="Folder for VIEW.json and VIEW.png.")],
    beside: Annotated[
        tuple[Path, str] | None,
        typer.Option(help="gates: another ADAPTER and its DATA, drawn beside the first."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Default: test, or else dev, or else train.")] = None,
    rows: Annotated[int, typer.Option(help="Look at so many rows, from the first.")] = 256,
    backbone: Annotated[str | None, typer.Option(help="Default: the one that the adapter names.")] = None,
    data_root: RootFlag = None,
    plugin: PluginsFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Look inside an adapter: what it does to attention, and what its own parts decide."""
    from softcue.cli.lines import print_json, print_line
    from softcue.inspection.views import VIEWS, inspect

    load_plugins(plugin)
    pairs: list[tuple[Any, str]] = [(adapter, data)]
    if beside is not None:
        pairs.append(beside)
    looks = inspect(view, pairs, out, split=split, rows=rows, backbone=backbone, root=data_root)
    if as_json:
        print_json([look.to_json() for look in looks])
        return
    for (folder, _), look in zip(pairs, looks, strict=True):
        print_line(f"{folder}: {VIEWS[view].say(look)}")
    print_line(f"written: {out / f'{view}.png'}, {out / f'{view}.json'}")
