"""Flags that commands share, and what is made of their values."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from softcue.errors import RequestError
from softcue.kinds import KINDS

UnsureFlag = Annotated[
    float | None,
    typer.Option(metavar="P", help="Answers with a chance below P are unsure; default: as the adapter says."),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
AdapterPlace = Annotated[
    Path, typer.Argument(help="The adapter's folder, or hf:OWNER/NAME for one on the Hugging Face hub.")
]
BackboneFlag = Annotated[
    str, typer.Option(help="A folder, a Hugging Face id, or an alias (see `softcue backbones`).")
]
RootFlag = Annotated[
    Path | None,
    typer.Option(help="Folder of data sets to look names up in; default: the variable SOFTCUE_DATA."),
]
PrecisionFlag = Annotated[
    str, typer.Option(help="float32, bfloat16, or auto: bfloat16 where the processor has it.")
]
DeviceFlag = Annotated[str, typer.Option(help="cpu, or cuda where there is one.")]
KindFlag = Annotated[str | None, typer.Option(help=f"{', '.join(KINDS)}; default: recognised from the data.")]
SettingsFlag = Annotated[
    list[str] | None, typer.Option("--set", help="A setting of the method or of training, NAME=VALUE.")
]
RowsFlag = Annotated[int | None, typer.Option(help="Use at most this many training rows, drawn by the seed.")]
PoolingFlag = Annotated[str | None, typer.Option(help="cls, mean, pooler or front; default: the backbone's.")]
TextColumn = Annotated[
    str | None,
    typer.Option(
        "--text", help="The column that holds the text, or several as in subject,body; likewise those below."
    ),
]
PairColumn = Annotated[str | None, typer.Option("--text-pair", help="The second text.")]
LabelColumn = Annotated[
    str | None, typer.Option("--label", help="The label, score or index of the right choice.")
]
LabelsColumn = Annotated[
    str | None,
    typer.Option("--labels", help="The labels of multilabel rows; or their columns of 0 and 1, as in a,b,c."),
]
TokensColumn = Annotated[str | None, typer.Option("--tokens", help="The words.")]
TagsColumn = Annotated[str | None, typer.Option("--tags", help="The words' tags.")]
EntitiesColumn = Annotated[
    str | None, typer.Option("--entities", help="The text's entities: start, end and label of each.")
]
TemplateFlag = Annotated[
    str | None,
    typer.Option("--template", help="How columns make the text, as in '{subject}: {body}'; without --text."),
]
TagNamesFlag = Annotated[
    str | None,
    typer.Option("--tag-names", help="What tags that are numbers stand for, as in O,B-PER,I-PER."),
]
EncodingFlag = Annotated[
    str | None,
    typer.Option(help="Of files that are not UTF-8, as in windows-1252; UTF-16 is known by its mark."),
]
# of the flags above, those that say which columns there are
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
    typer.Option(
        "--plugin", help="A Python file of yours with methods or tasks; it is run. May be repeated."
    ),
]


def parse_settings(given: list[str]) -> dict[str, Any]:
    """Parse ["length=20", "plan=preset"] to {"length": 20, "plan": "preset"}.

    Values are TOML, or else words.
    """
    settings = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise RequestError(f"--set {item!r} is not NAME=VALUE, as in --set length=20")
        try:
            settings[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):
            settings[name.strip()] = value
    return settings


def columns_of(flags: Mapping[str, Any]) -> dict[str, str]:
    """Return our field name -> the file's column, for the flags of columns that were given.

    flags: a command's values by name; those that say nothing of columns may be among them.
    """
    return {name: flags[name] for name in COLUMN_FLAGS if flags.get(name) is not None}


def load_plugins(given: list[Path] | None) -> None:
    """Run the user's own files before anything is looked up by name."""
    if given:
        from softcue.plugins import load_plugin

        for path in given:
            load_plugin(path)
