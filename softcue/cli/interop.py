"""softcue import-peft, export-peft and export-onnx: adapters in and out of other formats."""

from pathlib import Path
from typing import Annotated

import typer

from softcue.cli.flags import PluginsFlag, load_plugins
from softcue.errors import RequestError

BackboneOption = Annotated[str | None, typer.Option(help="Default: the one that the adapter names.")]


def import_peft_command(
    folder: Annotated[Path, typer.Argument(help="The folder that PEFT's save_pretrained wrote.")],
    out: Annotated[Path, typer.Option(help="Where to save the adapter.")],
    backbone: BackboneOption = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="A label, repeated in the order of the classifier's rows; default: LABEL_0, .."),
    ] = None,
    pair: Annotated[bool, typer.Option("--pair", help="It reads pairs of texts.")] = False,
    limit: Annotated[int, typer.Option(help="Tokens of an example, beyond which it is truncated.")] = 128,
) -> None:
    """Make an adapter of softcue's out of one of PEFT's: LoRA, prefix tuning or prompt tuning."""
    from softcue.adapter import check_place
    from softcue.cli.lines import print_line
    from softcue.interop.peft import from_peft

    check_place(out)
    adapter = from_peft(folder, backbone=backbone, labels=label, pair=pair, limit=limit)
    print_line(f"saved {adapter.method} ({adapter.kind}) in {adapter.save(out)}")


def export_peft_command(
    adapter: Annotated[Path, typer.Argument(help="The adapter's folder.")],
    out: Annotated[Path, typer.Option(help="Where to write PEFT's folder; it must be empty or absent.")],
    backbone: BackboneOption = None,
    plugin: PluginsFlag = None,
) -> None:
    """Write an adapter of lora, ptuning or prompt as PEFT's library reads it."""
    from softcue.adapter import Adapter
    from softcue.cli.lines import print_line
    from softcue.interop.peft import to_peft

    load_plugins(plugin)
    print_line(f"wrote {to_peft(Adapter.load(adapter), out, backbone=backbone)}")


def export_onnx_command(
    adapter: Annotated[
        list[Path], typer.Argument(metavar="ADAPTER...", help="Adapters' folders; each goes by its own name.")
    ],
    out: Annotated[Path, typer.Option(help="Where to write the graph; it must be empty or absent.")],
    backbone: BackboneOption = None,
) -> None:
    """Write one ONNX graph of the encoder with the adapters' numbers as its inputs (docs/interop.md)."""
    from softcue.cli.lines import print_line
    from softcue.files import resolve
    from softcue.interop.onnx import export_onnx

    named = {resolve(folder).name: folder for folder in adapter}
    if len(named) != len(adapter):
        raise RequestError(f"{len(adapter)} adapters came with {len(named)} names; expected each its own")
    print_line(f"wrote {export_onnx(named, out, backbone=backbone)}")
