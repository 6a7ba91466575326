"""Sweeps of a tiny base over tiny data, and what tests compare of them."""

import json
from pathlib import Path
from typing import Any

from softcue.readers.records import Data
from softcue.studies.sweep import sweep
from tests.tiny_base import tiny_base, tiny_data

QUICK: dict[str, Any] = {"epochs": 2, "batch": 16}
GRID = {"rate": [1e-3, 1e-2], "length": [2, 4]}
DATA = tiny_data("classify")


def quick(out: Path, data: Any = (DATA,), methods: Any = ("apt",), **given: Any) -> dict[str, Any]:
    return sweep(
        data, methods, out, **{"backbone": tiny_base(), "limit": 32, "settings": QUICK, "grid": GRID, **given}
    ).to_json()


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if "seconds" not in name}


def written(folder: Path) -> dict[str, Any]:
    """What sweep.json holds, without times."""
    return timeless(json.loads((folder / "sweep.json").read_text()))


def write_data(folder: Path, data: Data) -> Path:
    """The data set as a folder of JSONL files."""
    folder.mkdir()
    for split, records in data.splits.items():
        (folder / f"{split}.jsonl").write_text(
            "".join(json.dumps({"text": r.text, "label": r.label}) + "\n" for r in records)
        )
    return folder
