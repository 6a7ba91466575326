"""Tasks: the benchmarks by name, and the function by which train, eval and compare open data."""

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

ROOT = "SOFTCUE_DATA"  # environment variable: where benchmarks and named data sets are looked for first

# sets that ship with softcue, by their names; each is a folder of that name under softcue/data
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
    """Open a benchmark or bundled set by name, a folder under the data root, a table, or else as read_data.

    A table is a DataFrame, a Dataset, a list of objects, (texts, labels), or an object of tables by split.

    A benchmark's or a bundled set's name means just that, whatever folders stand in the working directory:
    "./rte" is the folder. A benchmark is found under `data_root` first and on the hub second. Raises
    RequestError.
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
            f"the data root {data_root} is not a folder; expected one with a folder for each data set"
        )
    task = find_task(name) if isinstance(where, str) else None
    if task is not None:
        if kind not in (None, task.kind) or columns:
            raise DataError(
                f"{task.name} is a benchmark, of kind {task.kind} and known columns; give its folder's path "
                "to read it otherwise"
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
    """Return the data root: the one given, or else the environment's.

    Raises RequestError if it is not a folder.
    """
    root = os.environ.get(ROOT) if given is None else as_path("the data root", given)
    if root is not None and not os.path.isdir(root):
        named = "" if given else f" (the variable {ROOT} names it)"
        raise DataError(
            f"the data root {root} is not a folder{named}; give the folder that holds the data sets' folders"
        )
    return None if root is None else Path(root)
