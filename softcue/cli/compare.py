"""softcue compare: trains several methods with several seeds, and writes one table."""

from pathlib import Path
from typing import Annotated

import typer

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


def compare_command(
    data: Annotated[str, typer.Argument(help="Data, as for train.")],
    methods: Annotated[
        str, typer.Option(help="Methods, separated by commas; majority and probe are always added.")
    ],
    out: Annotated[
        Path,
        typer.Option(help="Folder for the table and finished runs; a killed comparison continues there."),
    ],
    seeds: Annotated[int, typer.Option(help="Number of trainings of each method, with seeds 0, 1, ..")] = 3,
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
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of every method; default: by the number of rows.")
    ] = None,
    rows: RowsFlag = None,
    pooling: PoolingFlag = None,
    limit: Annotated[int, typer.Option(help="Most tokens of an example; longer ones are truncated.")] = 128,
    data_root: RootFlag = None,
    plugin: PluginsFlag = None,
    precision: PrecisionFlag = "auto",
    device: DeviceFlag = "cpu",
    as_json: JsonFlag = False,
) -> None:
    """Train several methods under equal budgets; write one table."""
    from softcue.cli import show
    from softcue.studies.compare import compare as run
    from softcue.training.progress import training_progress

    load_plugins(plugin)
    names = [name.strip() for name in methods.split(",") if name.strip()]
    chosen = parse_settings(settings or []) | ({} if epochs is None else {"epochs": epochs})
    with training_progress(quiet=as_json) as report:
        result = run(
            data,
            names,
            out,
            seeds=seeds,
            backbone=backbone,
            settings=chosen,
            kind=kind,
            columns=columns_of(locals()),
            encoding=encoding,
            root=data_root,
            rows=rows,
            pooling=pooling,
            limit=limit,
            precision=precision,
            device=device,
            report=report,
            say=show.progress,
        )
    show.show_compared(result, as_json)
