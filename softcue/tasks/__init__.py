"""Tasks: the benchmarks by name, and the function by which train, eval and compare open data."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from softcue.errors import DataError
from softcue.files import as_path
from softcue.readers import SPLITS, Data, Shape, read_data, read_folder
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
    where: str | Path,
    *,
    kind: str | None = None,
    columns: Mapping[str, str] | None = None,
    data_root: str | Path | None = None,
    seed: int = 0,
    limit: Mapping[str, int] | None = None,
    splits: Sequence[str] = SPLITS,
) -> Data:
    """Open a benchmark, a bundled set or a folder under the data root by name, or whatever read_data reads.

    A benchmark's or a bundled set's name means just that, whatever folders stand in the working directory:
    "./rte" is the folder. A benchmark is found under `data_root` first and on the hub second. Raises
    RequestError.
    """
    if not isinstance(where, str | os.PathLike):
        raise DataError(
            f"{type(where).__name__} came as data; expected a path, a benchmark's name or hf:ID, or what "
            "open_data gives"
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
    if isinstance(where, str) and name in BUNDLED:
        where = DATA / name
    is_name = isinstance(where, str) and name.replace("_", "").replace("-", "").isalnum()
    if is_name and root is not None and os.path.isdir(root / name):
        shape = Shape(kind, columns or {})
        return read_folder(root / name, shape, name=name, seed=seed, limit=limit, splits=splits)
    return read_data(where, kind=kind, columns=columns, seed=seed, limit=limit, splits=splits)


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
