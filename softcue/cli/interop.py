"""softcue import-peft, export-peft and export-onnx: adapters in and out of other formats."""

from pathlib import Path
from typing import Annotated

import typer

from softcue.cli.flags import PluginsFlag, load_plugins
from softcue.errors import RequestError

BackboneOption = Annotated[str | None, typer.Option(help="The encoder; default: the adapter's own.")]


def import_peft_command(
    folder: Annotated[Path, typer.Argument(help="The folder that PEFT's save_pretrained wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for the adapter.")],
    backbone: BackboneOption = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="A label; repeat it in the order of the classifier's rows; default: LABEL_0, .."),
    ] = None,
    pair: Annotated[bool, typer.Option("--pair", help="The adapter reads pairs of texts.")] = False,
    limit: Annotated[int, typer.Option(help="Most tokens of an example; longer ones are truncated.")] = 128,
) -> None:
    """Convert an adapter of PEFT to one of softcue.

    It must be LoRA, prefix tuning or prompt tuning.
    """
    from softcue.adapter import check_place
    from softcue.cli.lines import print_line
    from softcue.interop.peft import from_peft

    check_place(out)
    adapter = from_peft(folder, backbone=backbone, labels=label, pair=pair, limit=limit)
    print_line(f"saved {adapter.method} ({adapter.kind}) in {adapter.save(out)}")


def export_peft_command(
    adapter: Annotated[Path, typer.Argument(help="The adapter's folder.")],
    out: Annotated[Path, typer.Option(help="Folder for PEFT's files; it must be empty or absent.")],
    backbone: BackboneOption = None,
    plugin: PluginsFlag = None,
) -> None:
    """Convert a lora, ptuning or prompt adapter to PEFT's files."""
    from softcue.cli.lines import print_line
    from softcue.interop.peft import to_peft

    load_plugins(plugin)
    print_line(f"wrote {to_peft(adapter, out, backbone=backbone)}")


def export_onnx_command(
    adapter: Annotated[
        list[Path],
        typer.Argument(metavar="ADAPTER...", help="Adapters' folders; a folder's name is its adapter's."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the graph; it must be empty or absent.")],
    backbone: BackboneOption = None,
) -> None:
    """Write an ONNX graph of the encoder, with adapters as inputs.

    docs/interop.md says which methods and encoders it can hold.
    """
    from softcue.cli.lines import print_line
    from softcue.files import resolve
    from softcue.interop.onnx import export_onnx

    named = {resolve(folder).name: folder for folder in adapter}
    if len(named) != len(adapter):
        raise RequestError(f"{len(adapter)} adapters came with {len(named)} names; expected each its own")
    print_line(f"wrote {export_onnx(named, out, backbone=backbone)}")
