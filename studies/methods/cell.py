"""One cell of the study: its data, its training and what is written down of it."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import Options, machine
from softcue.adapter import Adapter
from softcue.api import train
from softcue.base import Base
from softcue.cues.spt import Spt
from softcue.cues.stp import BUDGETS, layer_budget
from softcue.readers import Data, Record
from softcue.studies.cells import encoder_size, trained_sizes
from softcue.studies.compare import majority
from softcue.tasks import open_data
from softcue.training.full import Checkpoint
from studies.methods.plan import ARMS, MAJORITY, ROWS, PlannedCell, random_layers


def run_planned(cell: PlannedCell, base: Base, root: Path, device: str) -> dict[str, Any]:
    """Train and score one cell, and return what its file holds."""
    data = data_of(cell, root)
    arm, own = ARMS[cell.arm], settings_of(cell, base)
    told = {
        **asdict(cell),
        "name": cell.name,
        "method": arm.method,
        "settings": own,
        "kind": data.kind,
        "metrics": list(data.metrics),
        "subset": data.subset,
        "rows": len(data.splits["train"]),
    }
    began = time.perf_counter(), time.process_time()
    found = _majority(data, cell, base) if arm.method == MAJORITY else _trained(cell, data, own, base)
    seconds = {"wall": time.perf_counter() - began[0], "processor": time.process_time() - began[1]}
    options = Options(device, quick=False, threads=torch.get_num_threads(), clock="cpu", repeat=1)
    return {
        **told,
        **found,
        "seconds": seconds,
        "encoder_parameters": encoder_size(base),
        "precision": base.precision,
        "machine": machine(options),
    }


def settings_of(cell: PlannedCell, base: Base) -> dict[str, Any]:
    """Return the arm's settings; random layers are drawn by the cell's seed."""
    arm = ARMS[cell.arm]
    if not arm.random_layers:
        return dict(arm.settings)
    dims = base.backbone.encoder.dims
    sizes = [layer_budget(None, usual, dims.layers) for usual in BUDGETS]
    return {**arm.settings, **random_layers(dims, sizes, cell.seed)}


def data_of(cell: PlannedCell, root: Path) -> Data:
    """Open the cell's data; of a few examples a class, the draw goes by the cell's seed.

    Then there is no dev split: who has sixteen examples has no thousand others to choose a step by.
    """
    if cell.shots is None:
        return open_data(cell.data, data_root=root, limit={"train": ROWS})
    data = open_data(cell.data, data_root=root)
    held = "test" if "test" in data.splits else "dev"
    few = draw(data.splits["train"], cell.shots, cell.seed)
    return replace(data, splits={"train": few, "test": data.splits[held]})


def draw(records: list[Record], shots: int, seed: int) -> list[Record]:
    """Draw examples until each class has `shots`, or has no more.

    A tagged text counts for each type of entity in it, and one without any for "O".
    """
    order = torch.randperm(len(records), generator=torch.Generator().manual_seed(seed)).tolist()
    count: Counter[Any] = Counter()
    drawn = []
    for i in order:
        wanted = [name for name in classes_of(records[i]) if count[name] < shots]
        if wanted:
            drawn.append(records[i])
            count.update(wanted)
    return drawn


def classes_of(record: Record) -> set[Any]:
    """Return the label, or the types of the entities in the text."""
    if not record.tags:
        return {record.label}
    return {tag.partition("-")[2] for tag in record.tags if tag != "O"} or {"O"}


def _majority(data: Data, cell: PlannedCell, base: Base) -> dict[str, Any]:
    return {"scores": majority(data, cell.seed, base.text), "parameters": 0, "head": 0, "training": None}


def _trained(cell: PlannedCell, data: Data, own: Mapping[str, Any], base: Base) -> dict[str, Any]:
    trained = train(data, backbone=base, method=ARMS[cell.arm].method, settings=own, seed=cell.seed)
    adapter = trained.adapter if isinstance(trained, Checkpoint) else trained
    cue, head = trained_sizes(trained, base)
    return {
        "scores": {name: float(adapter.scores[name]) for name in data.metrics},
        "selection": adapter.scores.get("selection"),
        "measured": adapter.measured,
        "parameters": cue,
        "head": head,
        "training": dict(adapter.training),
        **({"token_cosine": token_cosine(adapter)} if adapter.method == Spt.method else {}),
    }


def token_cosine(adapter: Adapter) -> float:
    """Return the mean |cosine| of SPT's prefix tokens, over layers, pairs, keys and values."""
    return float(Spt.mean_cosine(adapter.cue["kv"]))
