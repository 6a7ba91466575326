"""Tasks: the benchmarks by name, and the function with which train, eval and compare open data."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from softcue.errors import DataError
from softcue.files import as_path
from softcue.readers import SPLITS, Columns, Data, Shape, as_columns, read_data, read_folder
from softcue.readers.columns import Said
from softcue.readers.data import read_tables
from softcue.readers.encoding import Encoding, as_encoding
from softcue.readers.tables import WAYS_IN, come_by_split, tables_of
from softcue.tasks.base import Task, all_tasks, find_task, forget, inputs_of, load, present, register
from softcue.tasks.glue import GLUE
from softcue.tasks.ner import NER
from softcue.tasks.other import OTHER
from softcue.tasks.superglue import SUPERGLUE

__all__ = [
    "BUNDLED",
    "ROOT",
    "Task",
    "all_tasks",
    "data_root",
    "find",
    "forget",
    "inputs_of",
    "open_data",
    "present",
    "register",
]

ROOT = "SOFTCUE_DATA"  # environment variable: the folder in which data sets are searched for first

# the data sets that ship with softcue, by name; each is a folder of that name under softcue/data
BUNDLED = ("helpdesk/intent", "helpdesk/urgency", "helpdesk/duplicates", "helpdesk/entities")
DATA = Path(__file__).resolve().parents[1] / "data"

for _task in (*GLUE, *SUPERGLUE, *NER, *OTHER):
    register(_task)


def open_data(
    where: Any,
    *,
    kind: str | None = None,
    columns: Said | Columns | None = None,
    encoding: str | Encoding | None = None,
    data_root: str | Path | None = None,
    seed: int = 0,
    limit: Mapping[str, int] | None = None,
    splits: Sequence[str] = SPLITS,
) -> Data:
    """Open a data set, and check all of its records.

    - where: the name of a benchmark (`softcue tasks` lists them) or of a bundled set; the name of a folder
      under `data_root`; the path of a file or folder; hf:ID; or a table. A table is a DataFrame, a Dataset, a
      list of dictionaries, a tuple (texts, labels), or a dictionary of such tables by split. A name wins over
      a folder of the same name in the working directory; "./rte" means the folder.
    - kind: the kind of task; None recognises it from the records.
    - columns: our field name -> the file's column (docs/data.md).
    - encoding: of files that are not UTF-8 and have no byte order mark.
    - data_root: a benchmark is read from this folder if it is there, else from the hub.
    - seed: draws the rows of `limit`, and splits a single file or table.
    - limit: the most rows of each split. splits: which splits to read; absent ones are left out.

    Raises RequestError.
    """
    columns = as_columns(columns)
    if not isinstance(where, str | os.PathLike):
        tables = tables_of(where)
        if tables is None:
            raise DataError(f"{type(where).__name__} came as data; expected {WAYS_IN}")
        name = type(where).__name__
        return read_tables(
            tables,
            Shape(kind, columns),
            name=name,
            source=name,
            known={} if come_by_split(where) else {"train": name},
            seed=seed,
            limit=limit,
            splits=splits,
        )
    name = str(where)
    root = None if data_root is None else as_path("the data root", data_root)
    if root is not None and not root.is_dir():
        raise DataError(
            f"the data root {data_root} is not a folder; expected a folder with one folder for each data set"
        )
    task = find_task(name) if isinstance(where, str) else None
    if task is not None:
        if kind not in (None, task.kind) or columns:
            raise DataError(
                f"{task.name} is a benchmark of kind {task.kind} with known columns; give its folder's path "
                "to read it with another kind or other columns"
            )
        return load(task, root, seed=seed, limit=limit, splits=splits)
    read = partial(
        read_data, kind=kind, columns=columns, encoding=encoding, seed=seed, limit=limit, splits=splits
    )
    if isinstance(where, str) and name in BUNDLED:
        return replace(read(DATA / name), name=name)
    is_name = isinstance(where, str) and name.replace("_", "").replace("-", "").isalnum()
    if is_name and root is not None and os.path.isdir(root / name):
        shape = Shape(kind, columns, encoding=as_encoding(encoding))
        return read_folder(root / name, shape, name=name, seed=seed, limit=limit, splits=splits)
    return read(Path(where) if isinstance(where, os.PathLike) else where)


def data_root(given: str | Path | None) -> Path | None:
    """Return the given data root, or else that of the environment variable.

    Raises RequestError if it is not a folder.
    """
    root = os.environ.get(ROOT) if given is None else as_path("the data root", given)
    if root is not None and not os.path.isdir(root):
        named = "" if given else f" (the variable {ROOT} names it)"
        raise DataError(
            f"the data root {root} is not a folder{named}; give the folder that holds the data sets' folders"
        )
    return None if root is None else Path(root)
