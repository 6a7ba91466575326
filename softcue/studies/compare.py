"""Comparison: methods x seeds on one data set under equal budgets; a finished cell is kept, so
that a killed run goes on where it was.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softcue.adapter.header import TOKEN_LIMIT
from softcue.answering.evaluation import judge
from softcue.base import Base, open_base
from softcue.files import JsonRecord, as_path, write_file
from softcue.kinds import KINDS
from softcue.options import check_list, check_whole
from softcue.readers import Data, Record
from softcue.readers.columns import Said
from softcue.readers.items import Reading
from softcue.readers.splits import select
from softcue.studies.cells import Cell, check_cells, encoder_size, read_cells, run_cell
from softcue.studies.compare_table import TableRow, compare_csv, compare_markdown, row_summary
from softcue.studies.results import check_results
from softcue.studies.space import check_seeds
from softcue.tasks import data_root, open_data
from softcue.text.tokens import Text
from softcue.training.conditions import conditions
from softcue.training.full import METHOD as FULL
from softcue.training.job import DEFAULT_LIMIT, Job, method_class, read_as
from softcue.training.jobs import Report
from softcue.training.settings import own_settings, preset, steps_settings

MAJORITY, PROBE = "majority", "probe"  # the rows that every table has
NO_ROW = torch.zeros(())  # of a standardised score: the mean
COMPARE_NAME = "compare"  # of the files with the table
COMPARE_FILES = f"{COMPARE_NAME}.json", f"{COMPARE_NAME}.csv", f"{COMPARE_NAME}.md"
COMPARE_KEYS = "encoder_parameters", "table", "cells"  # of the JSON file, by which it is known again


@dataclass(frozen=True)
class Comparison(JsonRecord):
    """Methods on one data set under equal budgets, as compare.json has them: the table and its cells."""

    data: str
    kind: str
    metrics: tuple[str, ...]
    subset: str | None  # what part of a benchmark it is, None for all of it
    warnings: tuple[str, ...]
    reported: str  # the split whose rows chose nothing
    rows: Mapping[str, int]  # of train, selection and what is reported
    backbone: str
    encoder_parameters: int
    epochs: int
    batch: int
    patience: int
    seeds: int
    table: tuple[Mapping[str, Any], ...]  # a row for each method, as row_summary gives it
    cells: tuple[Cell, ...]


def compare(
    data: Any,
    methods: Sequence[str],
    out: str | Path,
    *,
    seeds: int = 3,
    backbone: str | Base = "minilm",
    settings: Mapping[str, Any] | None = None,
    kind: str | None = None,
    columns: Said | None = None,
    encoding: str | None = None,
    root: str | Path | None = None,
    rows: int | None = None,
    pooling: str | None = None,
    limit: int = DEFAULT_LIMIT,
    precision: str = "auto",
    device: str = "cpu",
    report: Report = lambda prepared, run: None,
    say: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Train every method with every seed, and write the table to out/compare.md, .csv and .json.

    settings: as for train, each for the methods that have it; rows: cap on training rows, the same ones for
    all; say: told of every finished cell. A seeded tenth of train selects; test is reported, or dev where
    there is no test.
    """
    check_list("methods", methods)
    wanted = list(dict.fromkeys([PROBE, *(method for method in methods if method != MAJORITY)]))
    check_seeds(seeds, len(wanted))
    limit = check_whole("limit", limit, 1, TOKEN_LIMIT)
    shares, folder = share_out(wanted, settings or {}), as_path("out", out)
    check_results(folder, COMPARE_FILES, COMPARE_KEYS)
    if not isinstance(data, Data):
        cap = None if rows is None else {"train": rows}
        root = data_root(root)
        data = open_data(data, kind=kind, columns=columns, encoding=encoding, data_root=root, limit=cap)
    base = backbone if isinstance(backbone, Base) else open_base(backbone, precision, device)
    jobs = [
        plan(data, method, shares[method], seed, pooling, limit) for seed in range(seeds) for method in wanted
    ]
    made_with = conditions(jobs, base)
    found = read_cells(folder)
    check_cells(
        found, {f"{job.method}-{job.seed}": made for job, made in zip(jobs, made_with, strict=True)}, folder
    )
    cells = []
    for job, made in zip(jobs, made_with, strict=True):
        cell = found.get(f"{job.method}-{job.seed}")
        if cell is None:
            cell = run_cell(job, base, made, report)
            write_file(folder / "cells" / f"{cell.name}.json", json.dumps(asdict(cell), indent=2).encode())
            say(
                f"{cell.method} seed {cell.seed}: {data.metric} {cell.scores[data.metric]:.4f}, "
                f"{cell.seconds:.1f} s"
            )
        else:
            say(
                f"{cell.method} seed {cell.seed}: {data.metric} {cell.scores[data.metric]:.4f}, found in "
                f"{folder}"
            )
        cells.append(cell)
    comparison = compare_result(data, base, jobs, cells)
    result = comparison.to_json()
    texts = json.dumps(result, indent=2, ensure_ascii=False), compare_csv(result), compare_markdown(result)
    for name, text in zip(COMPARE_FILES, texts, strict=True):
        write_file(folder / name, text.encode())
    return comparison


def share_out(
    methods: Sequence[str], settings: Mapping[str, Any]
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Split `settings` for each method into what its config takes and what its training takes.

    SettingsError for what no method takes.
    """
    classes = {method: None if method == FULL else method_class(method) for method in methods}
    own = own_settings(classes, settings)
    shares = {}
    for method in methods:
        mine = {name: value for name, value in settings.items() if name in own[method]}
        shares[method] = (
            mine,
            {
                name: value
                for name, value in settings.items()
                if name not in mine and name in steps_settings(classes[method])
            },
        )
    return shares


def plan(
    data: Data,
    method: str,
    share: tuple[dict[str, Any], dict[str, Any]],
    seed: int,
    pooling: str | None,
    limit: int,
) -> Job:
    """Return one cell's job.

    Every method sees as many examples in batches of the same size, and none stops early.
    """
    own, training = share
    in_steps = method == FULL or steps_settings(method_class(method))
    budget = {**usual_budget(data), **training} if in_steps else {}
    return Job(data, method, own, budget, seed, pooling, limit, from_train=True)


def usual_budget(data: Data) -> dict[str, Any]:
    """Return what a method that trains in steps may take where nobody says otherwise."""
    usual = preset("default", data.kind, len(data.splits.get("train", ())), {})
    return {"epochs": usual.epochs, "batch": usual.batch, "patience": 0}


def compare_result(data: Data, base: Base, jobs: Sequence[Job], cells: Sequence[Cell]) -> Comparison:
    """Return the table and what has to be said of it."""
    seeds, methods = sorted({job.seed for job in jobs}), list(dict.fromkeys(job.method for job in jobs))
    whole = encoder_size(base)
    budget = next((job.training for job in jobs if job.training), usual_budget(data))
    selection = select(data, 0, from_train=True)
    rows = [TableRow(MAJORITY, [majority(data, seed, base.text) for seed in seeds])]
    for method in methods:
        own = [cell for cell in cells if cell.method == method]
        kilobytes, seconds = (
            sum(values) / len(own)
            for values in ([cell.kilobytes for cell in own], [cell.seconds for cell in own])
        )
        rows.append(
            TableRow(
                method,
                [cell.scores for cell in own],
                own[0].parameters,
                own[0].parameters / whole,
                own[0].head,
                kilobytes,
                seconds,
            )
        )
    reported = next((split for split in ("test", "dev") if split in data.splits), "another tenth of train")
    return Comparison(
        data=data.name,
        kind=data.kind,
        metrics=tuple(data.metrics),
        subset=data.subset,
        warnings=tuple(data.warnings),
        reported=reported,
        rows={
            "train": len(selection.train),
            "selection": len(selection.select),
            "reported": len(selection.report),
        },
        backbone=base.backbone.name,
        encoder_parameters=whole,
        epochs=budget["epochs"],
        batch=budget["batch"],
        patience=budget["patience"],
        seeds=len(seeds),
        table=tuple(row_summary(row, data.metrics) for row in rows),
        cells=tuple(cells),
    )


def majority(data: Data, seed: int, text: Text) -> dict[str, float]:
    """Score the answer that suits train best without a look at the text.

    It is the commonest label, the best set of labels, the mean score, or all "O".
    """
    selection = select(data, seed, from_train=True)
    reading = read_as(data, selection.train, DEFAULT_LIMIT, text)
    kind = KINDS[reading.kind]
    commonest = kind.commonest(selection.train)
    row = one_hot(kind.places(commonest, reading.labels), len(reading.labels)) if reading.labels else NO_ROW
    answers = [constant(record, reading, commonest, row) for record in selection.report]
    return judge(answers, selection.report, reading, data)


def constant(record: Record, reading: Reading, commonest: Any, row: Tensor) -> Tensor:
    """Return what a head would have to say to give that answer: (C,) -> (C,), (), (choices,) or (words, C).

    row: of the commonest label, or of "O"; the records share it, for there may be many labels.
    """
    return KINDS[reading.kind].constant(record, commonest, row)


def one_hot(at: int | Sequence[int], count: int) -> Tensor:
    """Return `count` zeros with a one, or several, among them: (C,)."""
    row = torch.zeros(count)
    row[torch.tensor(at, dtype=torch.long)] = 1.0
    return row
