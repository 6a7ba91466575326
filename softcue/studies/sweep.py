"""Sweep: many points, data sets and seeds packed over one encoder, and the best adapter of each data set."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from softcue.adapter import check_place
from softcue.adapter.header import TOKEN_LIMIT
from softcue.answering.evaluation import evaluate_seat
from softcue.answering.seating import seat_adapters
from softcue.answering.served import reading_of
from softcue.base import Base, open_base
from softcue.errors import RequestError
from softcue.files import as_path, write_file
from softcue.options import check_list, check_whole
from softcue.readers import Data
from softcue.readers.columns import Said
from softcue.readers.items import make_items
from softcue.readers.splits import select
from softcue.studies.memory import Memory
from softcue.studies.plot import plot
from softcue.studies.ray import on_ray
from softcue.studies.results import check_results
from softcue.studies.search import Budget, Runner, halve, here, read_budget, search
from softcue.studies.space import (
    MOST_POINTS,
    Point,
    Range,
    check_points,
    check_seeds,
    grid_points,
    random_points,
    usual_rates,
)
from softcue.studies.table import SweepResult, Winner, file_name, sweep_csv, sweep_result
from softcue.studies.trials import Result, SearchObserver, Terms, Trial, device_of, make_job, ranked
from softcue.tasks import data_root, open_data
from softcue.training.job import DEFAULT_LIMIT, method_class
from softcue.training.jobs import groups_of

SWEEP_NAME = "sweep"  # of the files with the results
# and what the first holds
SWEEP_FILES, SWEEP_KEYS = (
    (f"{SWEEP_NAME}.json", f"{SWEEP_NAME}.csv", f"{SWEEP_NAME}.png"),
    ("rungs", "together", "runs"),
)
BEST, GROUPS = "best", "groups"  # folders: the winner's adapter, and what is finished


def sweep(
    data: Sequence[str | Path | Data],
    methods: Sequence[str],
    out: str | Path,
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    ranges: Mapping[str, Range] | None = None,
    draws: int | None = None,
    halving: bool = False,
    budget: str | None = None,
    seeds: int = 1,
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
    ray: str | None = None,
    watch: SearchObserver | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> SweepResult:
    """Try points of settings, and save the best adapter of each data set.

    Points are those of a grid, or `draws` of ranges and lists. A tenth of train selects.

    Files under `out`: sweep.json, sweep.csv, sweep.png, and best (with several data sets a folder for each in
    it). No grid and no ranges: rates around each method's preset. settings: of
    every point; columns, encoding: how all data sets are to be read (docs/data.md); budget: of a halving, as
    read_budget takes it; rows: cap on training rows; ray: address of a
    cluster, or "local". Raises SoftcueError.
    """
    grid, ranges, settings = grid or {}, ranges or {}, settings or {}
    data, methods = check_list("data", data), check_list("methods", methods)
    limit = check_whole("limit", limit, 1, TOKEN_LIMIT)
    draws = None if draws is None else check_whole("random", draws, 1, MOST_POINTS)
    _check(data, methods, ranges, draws, halving, budget)
    check_seeds(seeds, len(methods))
    allowance = Budget() if budget is None else read_budget(budget)
    cap = None if rows is None else {"train": rows}
    opened = [
        d
        if isinstance(d, Data)
        else open_data(d, kind=kind, columns=columns, encoding=encoding, data_root=data_root(root), limit=cap)
        for d in data
    ]
    terms, points = _terms(opened, pooling, limit), _points(methods, grid, ranges, draws, settings, opened[0])
    check_seeds(seeds, len(points) * len(opened))
    for one in opened:
        check_points(points, one.kind)
        for warning in one.warnings:
            say(f"warning: {one.name}: {warning}")
    folder = as_path("out", out)
    best = _best_folders(folder, opened)
    check_results(folder, SWEEP_FILES, SWEEP_KEYS)
    for winner_folder in best.values():
        check_place(winner_folder)
    base = backbone if isinstance(backbone, Base) else open_base(backbone, precision, device)
    # a later group's data are refused now too
    groups_of([make_job(Trial(points[0], one.name, 0), terms) for one in opened], base)
    began, watch, place = time.monotonic(), watch or SearchObserver(), device_of(base)
    with _runner(ray, terms, base, watch) as (runner, width):
        kept = Memory(folder / GROUPS, terms, base, runner, say)
        if halving:
            rungs = halve(points, range(seeds), terms, allowance, place, kept, watch, width)
        else:
            rungs = [search(points, range(seeds), terms, place, kept, watch)]
    winners = [_winner(one, rungs, base) for one in opened]
    for winner in winners:
        winner.adapter.save(best[winner.data])
    seconds = time.monotonic() - began
    found = sweep_result(rungs, winners, terms, base, halving=halving, budget=budget, seconds=seconds)
    result = found.to_json()
    table, lines, picture = (folder / name for name in SWEEP_FILES)
    write_file(table, json.dumps(result, indent=2, ensure_ascii=False).encode())
    write_file(lines, sweep_csv(result).encode())
    plot(result, picture, say)
    return found


def _runner(
    ray: str | None, terms: Terms, base: Base, watch: SearchObserver
) -> AbstractContextManager[tuple[Runner, int]]:
    """Return what trains groups, here or as Ray tasks, and how many of them it trains at the same time."""
    if ray is None:
        return nullcontext((here(terms, base, watch), 1))
    return on_ray(ray, terms, base)


def _best_folders(folder: Path, opened: Sequence[Data]) -> dict[str, Path]:
    """Return where each data set's best adapter is saved: one alone has no folder of its own name."""
    if len(opened) == 1:
        return {opened[0].name: folder / BEST}
    return {one.name: folder / BEST / file_name(one.name) for one in opened}


def _check(
    data: Sequence[Any],
    methods: Sequence[str],
    ranges: Mapping[str, Range],
    draws: int | None,
    halving: bool,
    budget: str | None,
) -> None:
    """Refuse flags that do not go together."""
    wrong = {
        "no data came; expected a data set or several": not data,
        "no method came; expected one or several, as in pasta,spt": not methods,
        "ranges came without a number of draws; say how many with random (--random N), or give a grid": bool(
            ranges
        )
        and draws is None,
        "a budget came without halving; a sweep without halving trains every point in full": budget
        is not None
        and not halving,
    }
    told = [line for line, is_so in wrong.items() if is_so]
    if told:
        raise RequestError("; ".join(told))
    for method in methods:
        method_class(method)


def _points(
    methods: Sequence[str],
    grid: Mapping[str, Sequence[Any]],
    ranges: Mapping[str, Range],
    draws: int | None,
    settings: Mapping[str, Any],
    first: Data,
) -> list[Point]:
    if draws is not None and (grid or ranges):
        return random_points(methods, grid, ranges, draws, settings)
    if draws is not None:
        raise RequestError(
            "random came without anything to draw; give ranges (--range rate=1e-3..1e-1) or lists (--grid "
            "length=8,16)"
        )
    if grid or "rate" in settings:
        return grid_points(methods, grid, settings)
    rates = {
        method: usual_rates(method, first.kind, len(first.splits.get("train", ()))) for method in methods
    }
    grids = {method: {"rate": own} if own else {} for method, own in rates.items()}
    return [point for method in methods for point in grid_points([method], grids[method], settings)]


def _terms(opened: Sequence[Data], pooling: str | None, limit: int) -> Terms:
    names = [data.name for data in opened]
    folders = [file_name(name) for name in names]
    twice = sorted({name for name, folder in zip(names, folders, strict=True) if folders.count(folder) > 1})
    if twice:
        raise RequestError(
            f"{', '.join(twice)} came twice, or for one folder's name; expected data sets of different names"
        )
    return Terms(dict(zip(names, opened, strict=True)), pooling, limit)


def _winner(data: Data, rungs: Sequence[Sequence[Result]], base: Base) -> Winner:
    """Return the best point of the last rung, and its best seed's adapter with its scores.

    The scores are of the rows that chose nothing.
    """
    last = [
        result for result in rungs[-1] if any(outcome.trial.data == data.name for outcome in result.outcomes)
    ]
    own = [outcome for result in last for outcome in result.outcomes if outcome.trial.data == data.name]
    point = ranked(own)[0]
    of_point = [
        r
        for r in last
        if any((o.trial.data, o.trial.point.key) == (data.name, point.key) for o in r.outcomes)
    ]
    if data.name not in of_point[0].adapters:
        raise RequestError(
            f"{data.name}: training diverged at every point of the last rung; lower the rates, or set clip"
        )
    adapter = of_point[0].adapters[data.name]
    selection, tried = (
        select(data, adapter.seed, from_train=True),
        sum(o.trial.data == data.name for r in rungs for x in r for o in x.outcomes),
    )
    items = make_items(selection.report, base.text, reading_of(adapter))
    scores = evaluate_seat(
        seat_adapters(base, [adapter]), 0, items, selection.report, reading_of(adapter), data
    )
    truncated = sum(item.dropped > 0 for item in items)
    measured = f"{selection.measured}; the best of {tried} runs of a sweep"
    return Winner(
        data.name,
        point,
        replace(adapter, scores={**scores, **adapter.scores, "truncated": truncated}, measured=measured),
    )
