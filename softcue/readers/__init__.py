"""Readers: turn files of any format, and data sets of the hub, into checked records."""

from softcue.readers.columns import FIELDS, Columns, as_columns
from softcue.readers.data import read_data, read_file, read_folder, read_hub
from softcue.readers.hub import Hub
from softcue.readers.records import (
    SPLITS,
    Data,
    Problems,
    RawRow,
    Record,
    RowTemplate,
    Shape,
)

__all__ = [
    "FIELDS",
    "SPLITS",
    "Columns",
    "Data",
    "Hub",
    "Problems",
    "RawRow",
    "Record",
    "RowTemplate",
    "Shape",
    "as_columns",
    "read_data",
    "read_file",
    "read_folder",
    "read_hub",
]
