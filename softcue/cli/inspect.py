"""softcue inspect: shows what an adapter does inside its encoder, as JSON and as a picture."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from softcue.cli.flags import (
    DeviceFlag,
    EncodingFlag,
    EntitiesColumn,
    JsonFlag,
    LabelColumn,
    LabelsColumn,
    PairColumn,
    PluginsFlag,
    PrecisionFlag,
    RootFlag,
    TagNamesFlag,
    TagsColumn,
    TemplateFlag,
    TextColumn,
    TokensColumn,
    columns_of,
    load_plugins,
)
from softcue.errors import RequestError

inspect_app = typer.Typer(
    help="Show what an adapter does inside its encoder. Writes DIR/VIEW.json and DIR/VIEW.png.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

# view -> what it shows, and an example
VIEWS = {
    "attention": (
        "Show the attention to special tokens. By layer and head, without and with an adapter of any method.",
        "softcue inspect attention adapters/trec data/trec --out views",
    ),
    "gates": (
        "Show APT's gates and scales (partly a reconstruction). Several adapters can be compared.",
        "softcue inspect gates adapters/trec data/trec adapters/ner data/ner --out views",
    ),
    "selection": (
        "Show SPT's gates, and how similar its prefix tokens are.",
        "softcue inspect selection adapters/trec data/trec --out views",
    ),
    "cell": (
        "Show what GPC's cell (a reconstruction) keeps. By layer, and how far training moved its matrices.",
        "softcue inspect cell adapters/trec data/trec --out views",
    ),
    "plan": (
        "Show the layers that STP (a reconstruction) chose. Also the attention by which it chose them.",
        "softcue inspect plan adapters/trec data/trec --out views",
    ),
}
SEVERAL = "gates"  # the view that can compare several adapters


def _register(view: str) -> None:
    """Make the command of one view."""
    about, example = VIEWS[view]
    pair = "ADAPTER DATA" + (" [ADAPTER DATA].." if view == SEVERAL else "")

    @inspect_app.command(view, help=about, epilog=f"Example: {example}")
    def command(
        given: Annotated[
            list[str], typer.Argument(metavar=pair, help="The adapter's folder, and data as for train.")
        ],
        out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the JSON file and the picture.")],
        split: Annotated[
            str | None,
            typer.Option(
                help="The rows to use: train, dev or test; default: test, or else dev (plan: train)."
            ),
        ] = None,
        rows: Annotated[int, typer.Option(help="Use at most this many rows.")] = 256,
        text: TextColumn = None,
        text_pair: PairColumn = None,
        label: LabelColumn = None,
        labels: LabelsColumn = None,
        tokens: TokensColumn = None,
        tags: TagsColumn = None,
        entities: EntitiesColumn = None,
        template: TemplateFlag = None,
        tag_names: TagNamesFlag = None,
        encoding: EncodingFlag = None,
        backbone: Annotated[str | None, typer.Option(help="The encoder; default: the adapter's own.")] = None,
        data_root: RootFlag = None,
        plugin: PluginsFlag = None,
        precision: PrecisionFlag = "auto",
        device: DeviceFlag = "cpu",
        as_json: JsonFlag = False,
    ) -> None:
        load_plugins(plugin)
        columns = columns_of(locals())
        how: dict[str, Any] = {
            "split": split,
            "rows": rows,
            "columns": columns or None,
            "encoding": encoding,
            "backbone": backbone,
            "root": data_root,
            "precision": precision,
            "device": device,
        }
        _inspect(view, pairs_of(view, given), out, how, as_json)


for _view in VIEWS:
    _register(_view)


def pairs_of(view: str, given: Sequence[str]) -> list[tuple[str, str]]:
    """Return adapters with their data. Raises RequestError for too few or too many words."""
    if len(given) % 2 or (len(given) > 2 and view != SEVERAL):
        raise RequestError(
            f"inspect {view} came with {len(given)} words; expected an adapter and its data"
            + (", or several such pairs" if view == SEVERAL else "")
        )
    return list(zip(given[::2], given[1::2], strict=True))


def _inspect(view: str, pairs: list[tuple[str, str]], out: Path, how: dict[str, Any], as_json: bool) -> None:
    """Inspect, write both files, and print the findings."""
    from softcue import inspection
    from softcue.cli.lines import print_json, print_line
    from softcue.files import write_file
    from softcue.inspection.drawing import draw_view, need_plots
    from softcue.studies.results import check_results

    names = f"{view}.json", f"{view}.png"
    need_plots()
    check_results(out, names, ("view", "softcue"))
    (adapter, data), beside = pairs[0], pairs[1:]
    look = getattr(inspection, f"inspect_{view}")
    found = look(adapter, data, **how, **({"beside": beside} if beside else {}))
    values, picture = {"softcue": "inspect", "view": view, **found.to_json()}, draw_view(found)
    make_folder(out)
    write_file(out / names[0], (json.dumps(values, indent=1) + "\n").encode())
    write_file(out / names[1], picture)
    if as_json:
        print_json(values)
        return
    for line in found.lines():
        print_line(line)
    print_line(f"saved {out / names[0]} and {names[1]}")


def make_folder(folder: Path) -> None:
    """Make the folder for the files. Raises WriteError."""
    from softcue.errors import WriteError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot make {folder}: {error.strerror}; give another folder") from error
