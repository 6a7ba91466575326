"""The command line: each command reads its flags, calls one library function and prints the result."""

import json
import os
import sys
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from softcue.cli.bank import bank_app
from softcue.cli.compare import compare_command
from softcue.cli.flags import (
    AdapterPlace,
    BackboneFlag,
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
    UnsureFlag,
    columns_of,
    load_plugins,
)
from softcue.cli.inspect import inspect_app
from softcue.cli.interop import export_onnx_command, export_peft_command, import_peft_command
from softcue.cli.push import push_command
from softcue.cli.serve import serve_command
from softcue.cli.sweep import SweepCommand, sweep_command
from softcue.cli.train import train_command
from softcue.errors import SoftcueError, visible

app = typer.Typer(
    help="Train small adapters for a frozen Transformer encoder, and serve many tasks from that one encoder.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

# ClickException, of click or of Typer's own copy of click: unknown or wrong flags and arguments
USAGE_ERRORS: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main() -> None:
    """Run the command; a user's mistake gives one line on standard error and exit code 2."""
    # the output may be JSON or go into files, so it is UTF-8 with any locale
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        try:
            code = app(prog_name="softcue", standalone_mode=False)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # as in `softcue ... | head`: Python would flush again and report an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except typer.Abort:
        sys.exit("Aborted!")
    except USAGE_ERRORS as error:  # their messages repeat what the user typed
        told = StringIO()
        error.show(file=told)
        print(visible(told.getvalue()), end="", file=sys.stderr)
        sys.exit(error.exit_code)
    except SoftcueError as error:
        print(f"softcue: {visible(error)}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        from softcue.plugins import fault

        fault_told = fault(error) or (str(error) if isinstance(error, OSError) else None)
        if fault_told is None:
            raise
        print(f"softcue: {visible(fault_told)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(code)


TRAIN = "softcue train data/trec --method pasta --backbone minilm --out adapters/trec"

app.command("train", epilog=f"Example: {TRAIN}")(train_command)


@app.command("eval", epilog="Example: softcue eval adapters/trec data/trec --split test")
def eval_command(
    adapter: AdapterPlace,
    data: Annotated[str, typer.Argument(help="Labelled data, as for train.")],
    split: Annotated[str, typer.Option(help="The rows to score: train, dev or test.")] = "test",
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
    unsure_below: UnsureFlag = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write report.json and report.png to this folder, and print the most wrong rows.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Score an adapter on one split of DATA."""
    from softcue import api
    from softcue.cli import show
    from softcue.cli.report import check_report, write_report

    load_plugins(plugin)
    if report is not None:
        check_report(report)
    result = api.evaluate(
        adapter,
        data,
        split=split,
        backbone=backbone,
        root=data_root,
        precision=precision,
        device=device,
        columns=columns_of(locals()),
        unsure_below=unsure_below,
        encoding=encoding,
    )
    show.show_evaluated(result, as_json)
    if report is not None:
        write_report(result, report, quiet=as_json)


@app.command("predict", epilog='Example: softcue predict adapters/trec "Who wrote Hamlet?"')
def predict_command(
    adapter: AdapterPlace,
    text: Annotated[
        list[str] | None, typer.Argument(help="A text, or two for an adapter that reads pairs.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="A file of texts to answer; its columns are named as in training, or by the flags below."
        ),
    ] = None,
    columns_text: TextColumn = None,
    text_pair: PairColumn = None,
    tokens: TokensColumn = None,
    template: TemplateFlag = None,
    encoding: EncodingFlag = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File for the answers, one JSON object on each line; default: standard output."),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="The encoder; default: the adapter's own.")] = None,
    plugin: PluginsFlag = None,
    precision: PrecisionFlag = "auto",
    device: DeviceFlag = "cpu",
    unsure_below: UnsureFlag = None,
) -> None:
    """Answer a text, or every row of a file, as JSON lines."""
    from softcue import api
    from softcue.cli import show
    from softcue.files import check_file

    load_plugins(plugin)
    if out is not None:
        check_file(out)
    answers = api.predict(
        adapter,
        api.questions(
            adapter,
            text or [],
            file,
            columns_of(
                {"text": columns_text, "text_pair": text_pair, "tokens": tokens, "template": template}
            ),
            encoding,
        ),
        backbone=backbone,
        precision=precision,
        device=device,
        unsure_below=unsure_below,
    )
    show.show_answers(answers, out)


@app.command("methods", epilog="Example: softcue methods")
def methods_command(plugin: PluginsFlag = None, as_json: JsonFlag = False) -> None:
    """List the tuning methods and their settings.

    The list also has the number of parameters that each method trains on bert-base.
    """
    from softcue.cli import lists

    load_plugins(plugin)
    lists.show_methods(as_json)


@app.command("tasks", epilog="Example: softcue tasks --data-root data")
def tasks_command(data_root: RootFlag = None, plugin: PluginsFlag = None, as_json: JsonFlag = False) -> None:
    """List the benchmarks, their metrics and where their data are."""
    from softcue.cli import lists
    from softcue.tasks import data_root as find_root

    load_plugins(plugin)
    lists.show_tasks(find_root(data_root), as_json)


@app.command("backbones", epilog="Example: softcue backbones")
def backbones_command(as_json: JsonFlag = False) -> None:
    """List the encoder families and the aliases of backbones."""
    from softcue.cli import lists

    lists.show_backbones(as_json)


@app.command("info", epilog="Example: softcue info adapters/trec")
def info_command(
    adapter: AdapterPlace,
    plugin: PluginsFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Show an adapter's method, data, settings and scores."""
    from softcue.cli import show

    load_plugins(plugin)
    show.show_info(adapter, as_json)


@app.command("quickstart", epilog="Example: softcue quickstart --out quickstart")
def quickstart_command(
    out: Annotated[Path, typer.Option(help="Folder for the adapters and the table.")] = Path("quickstart"),
    backbone: BackboneFlag = "minilm",
    as_json: JsonFlag = False,
) -> None:
    """Run the whole workflow on bundled data.

    It trains, compares, saves and reloads adapters, and answers a mixed batch.
    """
    from softcue.cli.tour import quickstart as run

    result = run(out, backbone)
    if as_json:
        print(json.dumps(result, indent=2))


COMPARE = "softcue compare data/trec --methods pasta,stp,spt --seeds 3 --out comparison"
SERVE = "softcue serve adapters --port 8000"
PUSH = "softcue push adapters/trec OWNER/trec-pasta --private"
IMPORT_PEFT = "softcue import-peft lora/spam --label ham --label spam --out adapters/spam"
EXPORT_PEFT = "softcue export-peft adapters/spam --out lora/spam"
EXPORT_ONNX = "softcue export-onnx adapters/spam adapters/trec --out onnx"
SWEEP = "softcue sweep data/trec --method apt --grid lr=1e-3,5e-3 --out sweep"

app.command("compare", epilog=f"Example: {COMPARE}")(compare_command)
app.command("sweep", cls=SweepCommand, epilog=f"Example: {SWEEP}")(sweep_command)
app.command("serve", epilog=f"Example: {SERVE}")(serve_command)
app.command("push", epilog=f"Example: {PUSH}")(push_command)
app.command("import-peft", epilog=f"Example: {IMPORT_PEFT}")(import_peft_command)
app.command("export-peft", epilog=f"Example: {EXPORT_PEFT}")(export_peft_command)
app.command("export-onnx", epilog=f"Example: {EXPORT_ONNX}")(export_onnx_command)

app.add_typer(inspect_app, name="inspect")
app.add_typer(bank_app, name="bank")
