"""Comparison: methods x seeds on one data set under equal budgets; a finished cell is kept, so that a killed run goes on where it was."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softcue.answering.evaluation import judge
from softcue.base import Base, open_base
from softcue.errors import RequestError
from softcue.files import read_json, write_file
from softcue.readers import Data, Record
from softcue.readers.items import Reading
from softcue.readers.splits import select
from softcue.studies.compare_table import Row, as_csv, as_markdown, summary
from softcue.studies.results import check_results
from softcue.studies.space import check_seeds
from softcue.tasks import data_root, open_data
from softcue.text.tokens import Text
from softcue.training.conditions import conditions
from softcue.training.full import METHOD as FULL
from softcue.training.full import Checkpoint, train_full
from softcue.training.job import LIMIT, Job, method_class, read_as
from softcue.training.jobs import Report, train_jobs
from softcue.training.settings import TRAINING, own_settings, preset

MAJORITY, PROBE = "majority", "probe"  # the rows that every table has
NAME = "compare"  # of the files with the table
FILES, KEYS = (f"{NAME}.json", f"{NAME}.csv", f"{NAME}.md"), ("encoder_parameters", "table", "cells")  # and what the first holds
OWN = tuple(
    f"training.{name}" for name in ("rate", "head_rate", "warmup", "decay", "clip", "schedule", "backbone_dropout")
)  # presets differ in them by method


@dataclass(frozen=True)
class Cell:
    """One method trained with one seed."""

    method: str
    seed: int
    scores: Mapping[str, float]
    parameters: int  # trained, the head's left out
    head: int
    kilobytes: float  # of the numbers that the adapter keeps
    seconds: float  # from records to scores
    made_with: Mapping[str, Any]  # all that determines the scores

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"{self.method}-{self.seed}"


def compare(
    data: str | Path | Data,
    methods: Sequence[str],
    out: str | Path,
    *,
    seeds: int = 3,
    backbone: str | Base = "minilm",
    settings: Mapping[str, Any] | None = None,
    kind: str | None = None,
    columns: Mapping[str, str] | None = None,
    root: str | Path | None = None,
    rows: int | None = None,
    pooling: str | None = None,
    limit: int = LIMIT,
    precision: str = "auto",
    device: str = "cpu",
    report: Report = lambda prepared, run: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train every method with every seed, and write the table to out/compare.md, .csv and .json; returns what the JSON holds.

    settings: as for train, each for the methods that have it; rows: cap on training rows, the same ones for all; say: told
    of every finished cell. A seeded tenth of train selects; test is reported, or dev where there is no test.
    """
    wanted = list(dict.fromkeys([PROBE, *(method for method in methods if method != MAJORITY)]))
    check_seeds(seeds, len(wanted))
    shares, folder = share_out(wanted, settings or {}), Path(out)
    check_results(folder, FILES, KEYS)
    if not isinstance(data, Data):
        cap = None if rows is None else {"train": rows}
        data = open_data(data, kind=kind, columns=columns, data_root=data_root(root), limit=cap)
    base = backbone if isinstance(backbone, Base) else open_base(backbone, precision, device)
    jobs = [plan(data, method, shares[method], seed, pooling, limit) for seed in range(seeds) for method in wanted]
    made_with = conditions(jobs, base)
    found = read_cells(folder)
    check_cells(found, {f"{job.method}-{job.seed}": made for job, made in zip(jobs, made_with, strict=True)}, folder)
    cells = []
    for job, made in zip(jobs, made_with, strict=True):
        cell = found.get(f"{job.method}-{job.seed}")
        if cell is None:
            cell = run_cell(job, base, made, report)
            write_file(folder / "cells" / f"{cell.name}.json", json.dumps(asdict(cell), indent=2).encode())
            say(f"{cell.method} seed {cell.seed}: {data.metric} {cell.scores[data.metric]:.4f}, {cell.seconds:.1f} s")
        else:
            say(f"{cell.method} seed {cell.seed}: {data.metric} {cell.scores[data.metric]:.4f}, found in {folder}")
        cells.append(cell)
    result = assemble(data, base, jobs, cells)
    for name, text in zip(FILES, (json.dumps(result, indent=2, ensure_ascii=False), as_csv(result), as_markdown(result)), strict=True):
        write_file(folder / name, text.encode())
    return result


def share_out(methods: Sequence[str], settings: Mapping[str, Any]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """For each method what of `settings` its config takes and what its training; RequestError for what nobody takes."""
    own = own_settings({method: None if method == FULL else method_class(method) for method in methods}, settings)
    shares = {}
    for method in methods:
        mine = {name: value for name, value in settings.items() if name in own[method]}
        shares[method] = mine, {name: value for name, value in settings.items() if name not in mine and name in TRAINING}
    return shares


def plan(data: Data, method: str, share: tuple[dict[str, Any], dict[str, Any]], seed: int, pooling: str | None, limit: int) -> Job:
    """One cell's job: every method sees as many examples in batches of the same size, and nobody stops early."""
    own, training = share
    usual = preset("default", data.kind, len(data.splits.get("train", ())), {})
    budget = {"epochs": usual.epochs, "batch": usual.batch, "patience": 0, **training}
    return Job(data, method, own, budget, seed, pooling, limit, from_train=True)


def read_cells(folder: Path) -> dict[str, Cell]:
    """The finished cells of an earlier run; RequestError for a place that cannot hold any, and for a damaged one."""
    try:
        (folder / "cells").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"--out {folder} cannot be written to ({error.strerror}); expected a new folder or one of an earlier run"
        ) from error
    cells = {}
    for file in sorted((folder / "cells").glob("*.json")):
        try:
            cells[file.stem] = Cell(**read_json(file, RequestError))
        except (RequestError, TypeError) as error:
            raise RequestError(f"{file} is not a finished cell of a comparison; remove it to have it made again") from error
    return cells


def check_cells(found: Mapping[str, Cell], planned: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Refuse a folder with cells of other conditions; of cells that are not wanted now only what all cells share counts."""
    common = flat(next(iter(planned.values())))
    shared = {key: value for key, value in common.items() if not key.startswith("config.") and key not in ("plugin", *OWN)}
    wrong: dict[str, str] = {}
    for name, cell in found.items():
        theirs = flat(cell.made_with)
        ours = {**dict.fromkeys(theirs), **flat(planned[name])} if name in planned else shared
        for key, value in ours.items():
            if theirs.get(key) != value:
                wrong.setdefault(key, f"{key} is {str(theirs.get(key))[:16]} in {name}, {str(value)[:16]} now")
    if wrong:
        raise RequestError(
            f"{folder} holds a comparison made with other settings: {'; '.join(wrong.values())}. Give the same, or another --out"
        )


def flat(made_with: Mapping[str, Any]) -> dict[str, Any]:
    """{"config": {"length": 4}} -> {"config.length": 4}"""
    pairs: dict[str, Any] = {}
    for key, value in made_with.items():
        pairs |= {f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value}
    return pairs


def run_cell(job: Job, base: Base, made_with: Mapping[str, Any], report: Report) -> Cell:
    """Train and score one cell."""
    began = time.monotonic()
    trained = train_full(job, base, report) if job.method == FULL else train_jobs([job], base, report)[0]
    seconds = time.monotonic() - began
    adapter = trained.adapter if isinstance(trained, Checkpoint) else trained
    cue = encoder_size(base) if isinstance(trained, Checkpoint) else sum(numbers.numel() for numbers in adapter.cue.values())
    head = sum(numbers.numel() for numbers in adapter.head.values())
    scores = {name: float(adapter.scores[name]) for name in job.data.metrics}
    return Cell(job.method, job.seed, scores, cue, head, (cue + head) * 4 / 1024, seconds, made_with)


def encoder_size(base: Base) -> int:
    """Numbers in the encoder, its pooler included."""
    return sum(parameter.numel() for parameter in base.backbone.encoder.parameters())


def assemble(data: Data, base: Base, jobs: Sequence[Job], cells: Sequence[Cell]) -> dict[str, Any]:
    """The table and what has to be said of it."""
    seeds, methods = sorted({job.seed for job in jobs}), list(dict.fromkeys(job.method for job in jobs))
    whole, first = encoder_size(base), jobs[0]
    selection = select(data, 0, from_train=True)
    rows = [Row(MAJORITY, [majority(data, seed, base.text) for seed in seeds])]
    for method in methods:
        own = [cell for cell in cells if cell.method == method]
        kilobytes, seconds = (sum(values) / len(own) for values in ([cell.kilobytes for cell in own], [cell.seconds for cell in own]))
        rows.append(
            Row(method, [cell.scores for cell in own], own[0].parameters, own[0].parameters / whole, own[0].head, kilobytes, seconds)
        )
    reported = next((split for split in ("test", "dev") if split in data.splits), "another tenth of train")
    return {
        "data": data.name,
        "kind": data.kind,
        "metrics": list(data.metrics),
        "subset": data.subset,
        "warnings": data.warnings,
        "reported": reported,
        "rows": {"train": len(selection.train), "selection": len(selection.select), "reported": len(selection.report)},
        "backbone": base.backbone.name,
        "encoder_parameters": whole,
        **{name: first.training[name] for name in ("epochs", "batch", "patience")},
        "seeds": len(seeds),
        "table": [summary(row, data.metrics) for row in rows],
        "cells": [asdict(cell) for cell in cells],
    }


def majority(data: Data, seed: int, text: Text) -> dict[str, float]:
    """Scores of the answer that suits train best without a look at the text: the commonest label, the mean score, or all "O"."""
    selection = select(data, seed, from_train=True)
    reading = read_as(data, selection.train, LIMIT, text)
    commonest = Counter(record.label for record in selection.train).most_common(1)[0][0]
    answers = [constant(record, reading, commonest) for record in selection.report]
    return judge(answers, selection.report, reading, data)


def constant(record: Record, reading: Reading, commonest: Any) -> Tensor:
    """What a head would have to say to be taken for that answer."""
    if reading.kind == "score":
        return torch.zeros(())  # of the standardised score: the mean
    if reading.kind == "tag":
        return torch.eye(len(reading.labels))[[0] * len(record.tokens)]
    if reading.kind == "choice":
        return torch.eye(max(len(record.choices), commonest + 1))[commonest]
    return torch.eye(len(reading.labels))[reading.labels.index(commonest)]
