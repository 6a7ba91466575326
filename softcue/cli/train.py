"""softcue train: trains, scores and saves one adapter."""

from pathlib import Path
from typing import Annotated

import typer

from softcue.cli.flags import (
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


def train_command(
    data: Annotated[
        str | None,
        typer.Argument(
            help="A folder with train, dev and test files, a single file, a benchmark's name, "
            "helpdesk/intent (bundled), or hf:ID; default: the recipe's data."
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder for the adapter.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="Start from published settings, as in spt-rte-roberta-large; flags override them."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="A tuning method (see `softcue methods`), `probe`, or `full`; default: pasta."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="The encoder: a folder, a Hugging Face id, or an alias (see `softcue backbones`); "
            "default: minilm."
        ),
    ] = None,
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
    seed: Annotated[
        int | None,
        typer.Option(help="Seed for initial values, order of rows, dropout and splits; default: 0."),
    ] = None,
    rows: RowsFlag = None,
    pooling: PoolingFlag = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Most tokens of an example; longer ones are truncated; default: 128."),
    ] = None,
    data_root: RootFlag = None,
    plugin: PluginsFlag = None,
    auto: Annotated[
        float | None,
        typer.Option(metavar="MINUTES", help="Search the learning rate first, for this many minutes."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="The metric that chooses the best step, as in macro_f1; default: the data's own."),
    ] = None,
    unsure_below: Annotated[
        float | None,
        typer.Option(metavar="P", help="Save P in the adapter: answers with a lower probability are unsure."),
    ] = None,
    precision: PrecisionFlag = "auto",
    device: DeviceFlag = "cpu",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints, from which a killed run can be resumed.")
    ] = None,
    every: Annotated[int, typer.Option(help="Steps between two checkpoints.")] = 200,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest checkpoint, if there is one.")
    ] = False,
    log: Annotated[Path | None, typer.Option(help="Folder for log.jsonl and the files of trackers.")] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(help="Log to tensorboard, wandb, mlflow or trackio as well. May be repeated."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Train an adapter on DATA, score it and save it."""
    from softcue import api
    from softcue.cli import show
    from softcue.training.checkpoint import open_checkpoints
    from softcue.training.parallel import leads, one_voice
    from softcue.training.progress import training_progress
    from softcue.training.recipes import train_arguments
    from softcue.training.trackers import open_trackers

    given = {
        "data": data,
        "method": method,
        "backbone": backbone,
        "seed": seed,
        "pooling": pooling,
        "limit": limit,
    }
    with one_voice():
        load_plugins(plugin)
        arguments = train_arguments(recipe, {**given, "settings": parse_settings(settings or [])})
        show.check_out(out, checkpoint, log)
        checkpoints = open_checkpoints(checkpoint, every, resume, show.progress)
        trackers = open_trackers(log, track or []) if leads() else []
        with training_progress(quiet=as_json) as report:
            adapter = api.train(
                **arguments,
                kind=kind,
                root=data_root,
                rows=rows,
                precision=precision,
                device=device,
                report=report,
                say=show.progress,
                columns=columns_of(locals()),
                encoding=encoding,
                auto=auto,
                metric=metric,
                unsure_below=unsure_below,
                checkpoints=checkpoints,
                trackers=trackers,
            )
        if leads():
            adapter.save(out)
            show.show_trained(adapter, out, as_json)
