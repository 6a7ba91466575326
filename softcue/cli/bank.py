"""softcue bank: keeps thousands of adapters in a few files, with versions and aliases."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from softcue.cli.flags import JsonFlag, PluginsFlag, load_plugins
from softcue.errors import RequestError

if TYPE_CHECKING:
    from softcue.adapter import Adapter
    from softcue.bank import Entry

bank_app = typer.Typer(
    help="Keep thousands of adapters in a few files. They share one backbone, and have versions and aliases.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

BankPath = Annotated[Path, typer.Argument(metavar="BANK", help="The bank's folder.")]
AdapterName = Annotated[
    str, typer.Argument(metavar="NAME", help="spam (the newest version), spam@3, or spam@prod.")
]


@bank_app.command("add", epilog="Example: softcue bank add bank adapters/trec adapters/rte")
def add_command(
    bank: BankPath,
    folder: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Adapters, folders of adapters, or hf:OWNER/NAME."),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name for a single adapter; default: its folder's name.")
    ] = None,
    plugin: PluginsFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Store adapters, each as the newest version of its name.

    The bank is created if there is none.
    """
    from softcue.adapter import Adapter
    from softcue.bank import Bank
    from softcue.bank.entry import check_name
    from softcue.bank.folders import adapter_folders
    from softcue.cli.lines import print_json, print_line

    load_plugins(plugin)
    folders = [found for place in folder for found in adapter_folders(place)]
    if name is not None and len(folders) != 1:
        raise RequestError(f"--name {name} came with {len(folders)} adapters; expected one")
    named = [(name or own, place) for own, place in folders]
    for own, _ in named:
        check_name(own)

    def loaded() -> Iterator[tuple[str, "Adapter"]]:
        for own, place in named:
            yield own, Adapter.load(place)

    adapters = loaded()
    first = next(adapters)  # before there is a bank: one that cannot be read leaves none behind
    with Bank.create(bank) as kept:
        entries = kept.add_all(chain([first], adapters))
    if as_json:
        print_json([entry.to_json() for entry in entries])
        return
    for entry in entries:
        print_line(f"added {entry.full_name}: {_about(entry)}")


@bank_app.command("list", epilog="Example: softcue bank list bank --search spam")
def list_command(
    bank: BankPath,
    search: Annotated[
        str, typer.Option(help="Show only names that contain this text; case is ignored.")
    ] = "",
    after: Annotated[str, typer.Option(help="Begin after this name, as the page before it says.")] = "",
    limit: Annotated[int, typer.Option(help="Show at most this many names.")] = 100,
    as_json: JsonFlag = False,
) -> None:
    """List names and their newest versions, a page at a time."""
    from softcue.bank import Bank
    from softcue.cli.lines import print_json, print_line

    with Bank(bank) as kept:
        entries, count = kept.page(after, limit, search), kept.count()
        follows = bool(entries) and bool(kept.page(entries[-1].name, 1, search))
    last = entries[-1].name if follows else None
    if as_json:
        print_json({"adapters": [entry.to_json() for entry in entries], "next": last, "count": count})
        return
    _table(entries)
    print_line(f"{len(entries)} of {count} names" + (f"; continue with --after {last}" if last else ""))


@bank_app.command("show", epilog="Example: softcue bank show bank spam@prod")
def show_command(bank: BankPath, name: AdapterName, as_json: JsonFlag = False) -> None:
    """Show one version, and list the others."""
    from softcue.bank import Bank
    from softcue.cli.lines import print_json, print_line

    with Bank(bank) as kept:
        entry = kept.find(name)
        versions = kept.versions(entry.name)
    if as_json:
        print_json(
            {**entry.to_json(), "full_name": entry.full_name, "versions": [v.version for v in versions]}
        )
        return
    print_line(f"{entry.full_name}: {_about(entry)}")
    print_line(f"sha256 {entry.sha256}")
    _table(versions)


@bank_app.command("alias", epilog="Example: softcue bank alias bank spam@3 prod")
def alias_command(
    bank: BankPath,
    name: AdapterName,
    alias: Annotated[str, typer.Argument(help="The alias, a word that begins with a letter.")],
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias instead.")] = False,
) -> None:
    """Give a version an alias, so that NAME@ALIAS stands for it."""
    from softcue.bank import Bank
    from softcue.bank.entry import split_name
    from softcue.cli.lines import print_line

    with Bank(bank) as kept:
        if remove:
            entry = kept.alias(split_name(name)[0], alias, None)
            print_line(f"removed {entry.name}@{alias}, which stood for {entry.full_name}")
            return
        found = kept.find(name)
        entry = kept.alias(found.name, alias, found.version)
    print_line(f"{entry.name}@{alias} stands for {entry.full_name}")


@bank_app.command("remove", epilog="Example: softcue bank remove bank spam@3")
def remove_command(bank: BankPath, name: AdapterName, as_json: JsonFlag = False) -> None:
    """Remove all versions of a name, or one of them (spam@3).

    The number of a removed version is not used again.
    """
    from softcue.bank import Bank
    from softcue.cli.lines import print_json, print_line

    with Bank(bank) as kept:
        gone = kept.remove(name)
    if as_json:
        print_json([entry.to_json() for entry in gone])
        return
    for entry in gone:
        print_line(f"removed {entry.full_name}")


@bank_app.command("verify", epilog="Example: softcue bank verify bank")
def verify_command(bank: BankPath, plugin: PluginsFlag = None, as_json: JsonFlag = False) -> None:
    """Check every adapter, and name those that are damaged.

    The exit code is 1 if one is damaged.
    """
    from softcue.bank import Bank
    from softcue.cli.lines import print_json, print_line

    load_plugins(plugin)
    with Bank(bank) as kept:
        found = kept.verify()
    if as_json:
        print_json(found.to_json())
    else:
        for damage in found.damaged:
            print_line(f"{damage.name}: {damage.problem}")
        print_line(f"{found.checked} adapters checked, {len(found.damaged)} damaged")
    if found.damaged:
        raise typer.Exit(1)


@bank_app.command("export", epilog="Example: softcue bank export bank spam@prod adapters/spam")
def export_command(
    bank: BankPath,
    name: AdapterName,
    folder: Annotated[Path, typer.Argument(help="Folder for the adapter.")],
    plugin: PluginsFlag = None,
) -> None:
    """Save an adapter of the bank as a folder."""
    from softcue.bank import Bank
    from softcue.cli.lines import print_line

    load_plugins(plugin)
    with Bank(bank) as kept:
        entry = kept.find(name)
        kept.export(entry.full_name, folder)
    print_line(f"saved {entry.full_name} in {folder}")


@bank_app.command("stats", epilog="Example: softcue bank stats bank")
def stats_command(bank: BankPath, as_json: JsonFlag = False) -> None:
    """Show the backbone and the numbers of names, versions and bytes."""
    from softcue.bank import Bank
    from softcue.cli.lines import print_json, print_line

    with Bank(bank) as kept:
        found, backbone = kept.stats(), kept.backbone
    if as_json:
        print_json({"backbone": backbone, **found.to_json()})
        return
    print_line(f"backbone: {backbone or 'none yet'}")
    print_line(f"{found.names:,} names, {found.versions:,} versions")
    print_line(
        f"{found.slabs:,} slabs with {found.bytes_live:,} bytes in use and {found.bytes_dead:,} bytes that "
        "compact can free"
    )
    for method, count in sorted(found.methods.items()):
        print_line(f"{method}: {count:,}")


@bank_app.command("compact", epilog="Example: softcue bank compact bank")
def compact_command(bank: BankPath, as_json: JsonFlag = False) -> None:
    """Free the space of removed adapters.

    Readers and writers can work meanwhile.
    """
    from softcue.bank import Bank
    from softcue.cli.lines import print_json, print_line

    with Bank(bank) as kept:
        done = kept.compact()
    if as_json:
        print_json(done.to_json())
    else:
        for left in done.left:
            print_line(left)
        print_line(f"{done.slabs} slabs compacted, {done.freed:,} bytes freed")
    if done.left:
        raise typer.Exit(1)


def _about(entry: "Entry") -> str:
    labels = f", {entry.labels} labels" if entry.labels else ""
    return f"{entry.method}, {entry.kind}{labels}, {entry.size:,} bytes"


def _table(entries: Sequence["Entry"]) -> None:
    from rich.table import Table

    from softcue.cli.lines import print_table
    from softcue.errors import one_line

    table = Table(box=None)
    for column in ("name", "method", "kind", "labels", "bytes", "added", "aliases"):
        table.add_column(column)
    for entry in entries:
        cells: list[Any] = [entry.full_name, entry.method, entry.kind, entry.labels, f"{entry.size:,}"]
        cells += [_when(entry.added), " ".join(entry.aliases)]
        table.add_row(*(one_line(cell) for cell in cells))
    print_table(table)


def _when(seconds: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
