"""softcue sweep: tries many settings, and saves the best adapter."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from softcue.cli.flags import (
    BackboneFlag,
    DeviceFlag,
    EncodingFlag,
    EntitiesColumn,
    JsonFlag,
    KindFlag,
    LabelColumn,
    LabelsColumn,
    PairColumn,
    PluginsFlag,
    PoolingFlag,
    PrecisionFlag,
    RootFlag,
    RowsFlag,
    SettingsFlag,
    TagNamesFlag,
    TagsColumn,
    TemplateFlag,
    TextColumn,
    TokensColumn,
    columns_of,
    load_plugins,
    parse_settings,
)

RAY, LOCAL_FLAG = "--ray", "local"


class SweepCommand(TyperCommand):
    """Reads `--ray` without a value as `--ray local`, because Typer has no flags with optional values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what follows the command's name.

        The context is click's own or that of Typer's copy of click.
        """
        return super().parse_args(ctx, with_local(args))


def with_local(args: list[str]) -> list[str]:
    """Turn ["data", "--ray", "--seeds", "2"] into ["data", "--ray", "local", "--seeds", "2"]."""
    made = []
    for at, word in enumerate(args):
        made.append(word)
        if word == RAY and (at + 1 == len(args) or args[at + 1].startswith("-")):
            made.append(LOCAL_FLAG)
    return made


def sweep_command(
    data: Annotated[list[str], typer.Argument(help="One data set or several, each as for train.")],
    *,
    method: Annotated[str, typer.Option(help="A tuning method, or several, separated by commas.")],
    out: Annotated[
        Path,
        typer.Option(help="Folder for the results and finished runs; a killed sweep continues there."),
    ],
    grid: Annotated[
        list[str] | None,
        typer.Option(
            help="Values to try, NAME=VALUE,VALUE..; lr means rate. Default: rates around the preset."
        ),
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            help="Range to draw from, as in rate=1e-3..1e-1 (on a logarithmic scale) or length=4..32.",
        ),
    ] = None,
    random: Annotated[
        int | None, typer.Option(help="Number of random points, drawn from --range and the values of --grid.")
    ] = None,
    halving: Annotated[
        bool,
        typer.Option(
            "--halving", help="Run all points for a short time, the best third for longer, and so on."
        ),
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(
            help="With --halving: a time (10m) or a number of examples; default: the last runs train in full."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Number of trainings of each point, with seeds 0, 1, ..")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            RAY, metavar="[ADDRESS]", help="Run on a Ray cluster; without an address, on this machine."
        ),
    ] = None,
    backbone: BackboneFlag = "minilm",
    kind: KindFlag = None,
    settings: SettingsFlag = None,
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
    rows: RowsFlag = None,
    pooling: PoolingFlag = None,
    limit: Annotated[int, typer.Option(help="Most tokens of an example; longer ones are truncated.")] = 128,
    data_root: RootFlag = None,
    plugin: PluginsFlag = None,
    precision: PrecisionFlag = "auto",
    device: DeviceFlag = "cpu",
    as_json: JsonFlag = False,
) -> None:
    """Try many settings in one process; save the best adapter."""
    from softcue.cli import show
    from softcue.studies.live import sweep_board
    from softcue.studies.space import read_grid, read_ranges
    from softcue.studies.sweep import sweep as run

    load_plugins(plugin)
    names = [name.strip() for name in method.split(",") if name.strip()]
    with sweep_board(quiet=as_json) as watch:
        result = run(
            data,
            names,
            out,
            grid=read_grid(grid or []),
            ranges=read_ranges(ranges or []),
            draws=random,
            halving=halving,
            budget=budget,
            seeds=seeds,
            backbone=backbone,
            settings=parse_settings(settings or []),
            kind=kind,
            columns=columns_of(locals()),
            encoding=encoding,
            root=data_root,
            rows=rows,
            pooling=pooling,
            limit=limit,
            precision=precision,
            device=device,
            ray=ray,
            watch=watch,
            say=show.progress,
        )
    show.show_swept(result, out, as_json)
