"""What the commands print: tables for people, JSON for machines."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TextIO

import torch
from rich.console import Console
from rich.table import Table

from softcue.adapter import Adapter, check_place
from softcue.answering.evaluation import Evaluation
from softcue.cues import Cue
from softcue.encoder.load import BACKBONES, FAMILIES
from softcue.errors import RequestError, one_line, visible
from softcue.files import resolve, write_file
from softcue.protocol import Dims, Facts
from softcue.scoring.report import report_table
from softcue.studies.compare import Comparison
from softcue.studies.compare_table import cells, notes
from softcue.studies.space import Point
from softcue.studies.table import SweepResult
from softcue.tasks import all_tasks, present
from softcue.training.full import METHOD as FULL
from softcue.training.full import Checkpoint

BERT_BASE = Dims(layers=12, hidden=768, heads=12, embed=768, ff=3072, pooler=True)
BERT_BASE_TOTAL = 109_482_240  # bert-base-uncased, encoder and pooler
SWEPT = 10  # points of a sweep that are shown


def check_out(out: Path, *beside: Path | None) -> None:
    """Refuse a place that saving would refuse later, before any work is done.

    beside: folders that the run fills before it saves (logs, checkpoints); in `out` they would be in the way.
    """
    try:
        place = check_place(out)
    except RequestError as error:
        raise RequestError(f"--out {out}: {error}") from error
    for other in beside:
        if other is not None and resolve(other).is_relative_to(place):
            raise RequestError(
                f"--out {out} is a folder for the adapter alone, and {other} is in it; give another for one "
                "of them"
            )


def show_trained(adapter: Adapter | Checkpoint, out: Path, as_json: bool) -> None:
    """What training ended with."""
    header = adapter.adapter if isinstance(adapter, Checkpoint) else adapter
    result = {"adapter": str(out), **_header(header)}
    if as_json:
        _json(result)
        return
    _say(
        f"saved {out}: {header.method if header.tuned == 'cue' else header.tuned} on {header.task}, "
        f"{size_line(header)}"
    )
    _scores(header)


def show_evaluated(result: Evaluation, as_json: bool) -> None:
    """Print the scores of one split."""
    if as_json:
        _json(result.to_json())
        return
    for warning in result.warnings:
        _say(f"warning: {warning}", file=sys.stderr)
    subset = f" - a SUBSET: {result.subset}" if result.subset else ""
    _say(f"{result.split}, {result.rows} rows{subset}")
    _say(_listed(result.scores))
    if result.raw_text is not None:
        _say(f"raw text instead of tokens: {_listed(result.raw_text)}")
    if result.truncated:
        _say(f"{result.truncated} rows were truncated")
    print(visible(report_table(result.report)))


def _listed(scores: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in scores.items())


def show_answers(given: Sequence[Mapping[str, Any]], out: Path | None) -> None:
    """One JSON object a line, to a file or to standard output."""
    lines = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in given)
    if out is None:
        sys.stdout.write(visible(lines))
    else:
        write_file(out, lines.encode())


def show_methods(as_json: bool) -> None:
    """The registry: one line of what each method does, its settings, its size on bert-base with
    the defaults and single texts.
    """
    # which layers are chosen changes no size
    facts = Facts(BERT_BASE, ("cls", "sep"), lambda: torch.ones(BERT_BASE.layers, 2))
    rows: list[dict[str, Any]] = []
    for name, method in sorted(Cue.registry.items()):
        summary = (sys.modules[method.__module__].__doc__ or "").strip().splitlines()[0]
        config = method.Config()
        settings = {f.name: getattr(config, f.name) for f in fields(config)}
        count = method.count(BERT_BASE, method.settle(config, facts))
        rows.append(
            {
                "method": name,
                "about": summary,
                "settings": settings,
                "numbers": count,
                "share": count / BERT_BASE_TOTAL,
            }
        )
    about = "Full fine-tuning: the whole encoder, for comparison; saves a checkpoint."
    rows.append({"method": FULL, "about": about, "settings": {}, "numbers": BERT_BASE_TOTAL, "share": 1.0})
    if as_json:
        _json(rows)
        return
    table = Table("method", "about", "numbers", "share", "settings (--set NAME=VALUE)", show_lines=True)
    for row in rows:
        settled = one_line(", ".join(f"{k}={v}" for k, v in row["settings"].items()))
        table.add_row(row["method"], row["about"], f"{row['numbers']:,}", f"{row['share']:.3%}", settled)
    _print(table)


def show_tasks(root: Path | None, as_json: bool) -> None:
    """Benchmarks and where they are: their folder under the data root, or the hub."""
    found = [(task, present(task, root)) for task in all_tasks()]
    if as_json:
        _json(
            [
                {
                    "task": task.name,
                    "kind": task.kind,
                    "metrics": task.metrics,
                    "folder": folder and str(folder),
                    "hub": task.hub is not None,
                }
                for task, folder in found
            ]
        )
        return
    table = Table("task", "kind", "metrics", "found")
    for task, folder in found:
        place = str(folder) if folder else "on the hub" if task.hub else "absent"
        table.add_row(*map(one_line, (task.name, task.kind, ", ".join(task.metrics), place)))
    _print(table)


def progress(line: str) -> None:
    """A line on what is going on, out of the way of results."""
    _say(line, file=sys.stderr)


def show_compared(comparison: Comparison, as_json: bool) -> None:
    """Print a comparison's table and what has to be known to read it."""
    result = comparison.to_json()
    if as_json:
        _json(result)
        return
    table = Table("method", *result["metrics"], "parameters", "of the encoder", "adapter KB", "seconds")
    for row in result["table"]:
        table.add_row(*map(one_line, cells(row, result["metrics"])))
    _print(table)
    for note in notes(result):
        _say(f"- {note.replace('**', '')}")


def show_swept(found: SweepResult, out: Path, as_json: bool) -> None:
    """Print for each data set the best points, the winner and its scores."""
    result = found.to_json()
    if as_json:
        _json({"out": str(out), **result})
        return
    for own in result["data"]:
        table = Table("point", "rung", "epochs", "rows", f"{own['metric']} (selection)")
        for row in own["table"][:SWEPT]:
            score = "diverged" if row["mean"] is None else f"{row['mean']:.4f}"
            deviation = "" if row["deviation"] is None else f" ± {row['deviation']:.4f}"
            point = str(Point(row["method"], row["settings"]))
            table.add_row(
                one_line(point), str(row["rung"]), str(row["epochs"]), f"{row['rows']:,}", score + deviation
            )
        best, subset = own["best"], f" - a SUBSET: {own['subset']}" if own["subset"] else ""
        _say(f"{own['data']}{subset}, the best of {len(own['table'])} points:")
        _print(table)
        told = "  ".join(f"{k} {v:.4f}" for k, v in best["scores"].items() if isinstance(v, float))
        _say(f"{Point(best['method'], best['settings'])}, seed {best['seed']}: {told} ({best['measured']})")
    for row in result["together"][:1]:
        _say(
            f"on the average of all data sets: {Point(row['method'], row['settings'])}, {row['mean']:.4f} "
            "(selection)"
        )
    _say(f"saved {out}/best; all runs are in {out}/sweep.json and {out}/sweep.csv")


def show_backbones(as_json: bool) -> None:
    """Aliases and families."""
    if as_json:
        _json({"aliases": BACKBONES, "families": sorted(FAMILIES)})
        return
    for alias, about in BACKBONES.items():
        _say(f"{alias}: {about}")
    _say(
        "families (a folder with config.json and safetensors, or a Hugging Face id): "
        f"{', '.join(sorted(FAMILIES))}"
    )


def show_info(folder: Path, as_json: bool) -> None:
    """An adapter's header."""
    adapter = Adapter.load(folder)
    if as_json:
        _json({"adapter": str(folder), **_header(adapter)})
        return
    reads = {"tag": "words", "choice": "a text and its choices"}.get(
        adapter.kind, "pairs of texts" if adapter.pair else "single texts"
    )
    what = (
        f"{adapter.method} for {adapter.backbone}"
        if adapter.tuned == "cue"
        else "a fine-tuned checkpoint, its own backbone"
    )
    _say(f"{folder}: {what} ({adapter.dims.layers} layers, width {adapter.dims.hidden})")
    _say(f"reads {reads}, at most {adapter.limit} tokens; answers {adapter.kind}; pooling {adapter.pooling}")
    if adapter.labels:
        _say(
            f"{len(adapter.labels)} labels: "
            f"{', '.join(adapter.labels[:20])}{' ...' if len(adapter.labels) > 20 else ''}"
        )
    _say(f"settings: {', '.join(f'{k}={v}' for k, v in asdict(adapter.config).items()) or 'none'}")
    _say(f"trained on {adapter.task} with seed {adapter.seed}; {size_line(adapter)}")
    _scores(adapter)


def size_line(adapter: Adapter) -> str:
    """Trained numbers and kilobytes."""
    cue, head = count(adapter)
    return f"{cue:,} trained numbers and {head:,} in the head, {(cue + head) * 4 / 1024:.1f} KB"


def count(adapter: Adapter) -> tuple[int, int]:
    """Numbers in the cue and in the head."""
    return sum(t.numel() for t in adapter.cue.values()), sum(t.numel() for t in adapter.head.values())


def _header(adapter: Adapter) -> dict[str, Any]:
    cue, head = count(adapter)
    kept = {
        k: getattr(adapter, k)
        for k in (
            "method",
            "kind",
            "labels",
            "pooling",
            "backbone",
            "fingerprint",
            "pair",
            "limit",
            "task",
            "subset",
        )
    }
    rest = {
        "seed": adapter.seed,
        "tuned": adapter.tuned,
        "measured": adapter.measured,
        "scores": dict(adapter.scores),
    }
    return {
        **kept,
        **rest,
        "settings": asdict(adapter.config),
        "training": dict(adapter.training),
        "cue_numbers": cue,
        "head_numbers": head,
    }


def _scores(adapter: Adapter) -> None:
    subset = f" - a SUBSET: {adapter.subset}" if adapter.subset else ""
    _say(
        f"{adapter.measured}{subset}: "
        + "  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in adapter.scores.items())
    )


def _json(value: Any) -> None:
    print(visible(json.dumps(value, indent=2, ensure_ascii=False)))


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False).print(table)


def _say(line: str, file: TextIO | None = None) -> None:
    """Print one line."""
    print(one_line(line), file=file)
