"""Readers: files of any format, and data sets of the hub, to checked records."""

from softcue.readers.data import read_data, read_file, read_folder, read_hub
from softcue.readers.hub import Hub
from softcue.readers.records import FIELDS, KINDS, SPLITS, Data, Problems, Record, Row, Shape, Template

__all__ = [
    "FIELDS",
    "KINDS",
    "SPLITS",
    "Data",
    "Hub",
    "Problems",
    "Record",
    "Row",
    "Shape",
    "Template",
    "read_data",
    "read_file",
    "read_folder",
    "read_hub",
]
