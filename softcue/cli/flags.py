"""Flags that several commands share, and functions that read their values."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from softcue.errors import RequestError
from softcue.kinds import KINDS

UnsureFlag = Annotated[
    float | None,
    typer.Option(
        metavar="P", help="Mark answers with a probability below P as unsure; default: the adapter's P."
    ),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
AdapterPlace = Annotated[
    Path, typer.Argument(help="The adapter's folder, or hf:OWNER/NAME on the Hugging Face hub.")
]
BackboneFlag = Annotated[
    str, typer.Option(help="The encoder: a folder, a Hugging Face id, or an alias (see `softcue backbones`).")
]
RootFlag = Annotated[
    Path | None,
    typer.Option(help="Folder with data sets that are given by name; default: the variable SOFTCUE_DATA."),
]
PrecisionFlag = Annotated[
    str, typer.Option(help="float32, bfloat16, or auto: bfloat16 if the device multiplies matrices in it.")
]
DeviceFlag = Annotated[str, typer.Option(help="cpu or cuda.")]
KindFlag = Annotated[
    str | None, typer.Option(help=f"Kind of task: {', '.join(KINDS)}; default: recognised from the data.")
]
SettingsFlag = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting of the method or of training, NAME=VALUE. May be repeated."),
]
RowsFlag = Annotated[int | None, typer.Option(help="Use at most this many training rows, drawn by the seed.")]
PoolingFlag = Annotated[
    str | None,
    typer.Option(help="The head's input: cls, mean, pooler or front; default: the backbone's own."),
]
TextColumn = Annotated[
    str | None,
    typer.Option("--text", help="Column of the text, or several columns as in subject,body; default: text."),
]
PairColumn = Annotated[str | None, typer.Option("--text-pair", help="Column of the second text of a pair.")]
LabelColumn = Annotated[
    str | None,
    typer.Option("--label", help="Column of the label, the score, or the index of the right choice."),
]
LabelsColumn = Annotated[
    str | None,
    typer.Option(
        "--labels", help="Column of several labels, or one column of 0 and 1 for each, as in a,b,c."
    ),
]
TokensColumn = Annotated[str | None, typer.Option("--tokens", help="Column of the words.")]
TagsColumn = Annotated[str | None, typer.Option("--tags", help="Column of the words' tags.")]
EntitiesColumn = Annotated[
    str | None, typer.Option("--entities", help="Column of the entities, each with start, end and label.")
]
TemplateFlag = Annotated[
    str | None,
    typer.Option(
        "--template", help="Build the text from columns, as in '{subject}: {body}'; replaces --text."
    ),
]
TagNamesFlag = Annotated[
    str | None,
    typer.Option("--tag-names", help="Names for tags that are numbers, in order, as in O,B-PER,I-PER."),
]
EncodingFlag = Annotated[
    str | None,
    typer.Option(
        help="Encoding of the file, as in windows-1252; default: UTF-8, or that of its byte order mark."
    ),
]
# the flags above that name columns
COLUMN_FLAGS = (
    "text",
    "text_pair",
    "label",
    "labels",
    "tokens",
    "tags",
    "entities",
    "template",
    "tag_names",
)
PluginsFlag = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="Your Python file with methods or tasks; it is executed. May be repeated."),
]


def parse_settings(given: list[str]) -> dict[str, Any]:
    """Parse ["length=20", "plan=preset"] to {"length": 20, "plan": "preset"}.

    A value that is not TOML is a string.
    """
    settings = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise RequestError(f"--set {item!r} came; expected NAME=VALUE, as in --set length=20")
        try:
            settings[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):
            settings[name.strip()] = value
    return settings


def columns_of(flags: Mapping[str, Any]) -> dict[str, str]:
    """Return our field name -> the file's column, for the given flags that name columns.

    flags: a command's values by name; other flags are ignored.
    """
    return {name: flags[name] for name in COLUMN_FLAGS if flags.get(name) is not None}


def load_plugins(given: list[Path] | None) -> None:
    """Run the user's own files, so that the names in them are known."""
    if given:
        from softcue.plugins import load_plugin

        for path in given:
            load_plugin(path)
