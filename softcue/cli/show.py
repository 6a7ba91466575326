"""The output of the commands: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from softcue.adapter import Adapter, check_place
from softcue.answering.evaluation import Evaluation
from softcue.cli.lines import print_json, print_line, print_table
from softcue.errors import RequestError, one_line, visible
from softcue.files import resolve, write_file
from softcue.kinds import KINDS
from softcue.kinds.base import READS_TEXTS
from softcue.scoring.report import report_table
from softcue.studies.compare import Comparison
from softcue.studies.compare_table import cells, notes
from softcue.studies.space import Point
from softcue.studies.table import SweepResult
from softcue.training.full import Checkpoint

SWEPT = 10  # points of a sweep that are shown


def check_out(out: Path, *beside: Path | None) -> None:
    """Refuse, before any work, a place that saving would refuse later.

    beside: folders that the run fills before it saves (logs, checkpoints); in `out` they would be in the way.
    """
    try:
        place = check_place(out)
    except RequestError as error:
        raise RequestError(f"--out {out}: {error}") from error
    for other in beside:
        if other is not None and resolve(other).is_relative_to(place):
            raise RequestError(
                f"--out {out} is the adapter's own folder, but {other} would be in it; give another folder "
                "for one of them"
            )


def show_trained(adapter: Adapter | Checkpoint, out: Path, as_json: bool) -> None:
    """Print the result of a training."""
    header = adapter.adapter if isinstance(adapter, Checkpoint) else adapter
    result = {"adapter": str(out), **_header(header)}
    if as_json:
        print_json(result)
        return
    print_line(
        f"saved {out}: {header.method if header.tuned == 'cue' else header.tuned} on {header.task}, "
        f"{size_line(header)}"
    )
    _scores(header)


def show_evaluated(result: Evaluation, as_json: bool) -> None:
    """Print the scores of one split."""
    if as_json:
        print_json(result.to_json())
        return
    for warning in result.warnings:
        print_line(f"warning: {warning}", file=sys.stderr)
    subset = f" - a SUBSET: {result.subset}" if result.subset else ""
    print_line(f"{result.split}, {result.rows} rows{subset}")
    print_line(_listed(result.scores))
    if result.raw_text is not None:
        print_line(f"raw text instead of tokens: {_listed(result.raw_text)}")
    if result.truncated:
        print_line(f"{result.truncated} rows were truncated")
    print(visible(report_table(result.report)))


def _listed(scores: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in scores.items())


def show_answers(given: Sequence[Mapping[str, Any]], out: Path | None) -> None:
    """Write answers to a file or to standard output, one JSON object on each line."""
    lines = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in given)
    if out is None:
        sys.stdout.write(visible(lines))
    else:
        write_file(out, lines.encode())


def progress(line: str) -> None:
    """Print a line about the progress to standard error, so that standard output has only results."""
    print_line(line, file=sys.stderr)


def show_compared(comparison: Comparison, as_json: bool) -> None:
    """Print a comparison's table and the notes that are needed to read it."""
    result = comparison.to_json()
    if as_json:
        print_json(result)
        return
    table = Table("method", *result["metrics"], "parameters", "of the encoder", "adapter KB", "seconds")
    for row in result["table"]:
        table.add_row(*map(one_line, cells(row, result["metrics"])))
    print_table(table)
    for note in notes(result):
        print_line(f"- {note.replace('**', '')}")


def show_swept(found: SweepResult, out: Path, as_json: bool) -> None:
    """Print for each data set the best points, the winner and its scores."""
    result = found.to_json()
    if as_json:
        print_json({"out": str(out), **result})
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
        print_line(f"{own['data']}{subset}, the best of {len(own['table'])} points:")
        print_table(table)
        told = "  ".join(f"{k} {v:.4f}" for k, v in best["scores"].items() if isinstance(v, float))
        print_line(
            f"{Point(best['method'], best['settings'])}, seed {best['seed']}: {told} ({best['measured']})"
        )
    for row in result["together"][:1]:
        print_line(
            f"on the average of all data sets: {Point(row['method'], row['settings'])}, {row['mean']:.4f} "
            "(selection)"
        )
    print_line(f"saved {out}/best; all runs are in {out}/sweep.json and {out}/sweep.csv")


def show_info(folder: Path, as_json: bool) -> None:
    """Print an adapter's header."""
    adapter = Adapter.load(folder)
    if as_json:
        print_json({"adapter": str(folder), **_header(adapter)})
        return
    reads = KINDS[adapter.kind].reads
    if reads == READS_TEXTS:
        reads = "pairs of texts" if adapter.pair else "single texts"
    what = (
        f"{adapter.method} for {adapter.backbone}"
        if adapter.tuned == "cue"
        else "a fine-tuned checkpoint, its own backbone"
    )
    print_line(f"{folder}: {what} ({adapter.dims.layers} layers, width {adapter.dims.hidden})")
    print_line(
        f"reads {reads}, at most {adapter.limit} tokens; answers {adapter.kind}; pooling {adapter.pooling}"
    )
    if adapter.labels:
        print_line(
            f"{len(adapter.labels)} labels: "
            f"{', '.join(adapter.labels[:20])}{' ...' if len(adapter.labels) > 20 else ''}"
        )
    if adapter.columns:
        print_line(f"columns: {', '.join(f'{name}={line}' for name, line in adapter.columns.items())}")
    if adapter.encoding is not None:
        print_line(f"encoding: {adapter.encoding}, for files that are not UTF-8")
    if adapter.unsure_below:
        print_line(f"answers with a probability below {adapter.unsure_below:g} are unsure")
    print_line(f"settings: {', '.join(f'{k}={v}' for k, v in asdict(adapter.config).items()) or 'none'}")
    rows = "" if adapter.rows is None else f" (at most {adapter.rows:,} rows)"
    precision = "" if adapter.precision is None else f" in {adapter.precision}"
    print_line(f"trained on {adapter.task}{rows} with seed {adapter.seed}{precision}; {size_line(adapter)}")
    _scores(adapter)


def size_line(adapter: Adapter) -> str:
    """Return the count of trained parameters and their size in KB, as text."""
    cue, head = count(adapter)
    return f"{cue:,} trained parameters and {head:,} in the head, {(cue + head) * 4 / 1024:.1f} KB"


def count(adapter: Adapter) -> tuple[int, int]:
    """Count the parameters of the cue and of the head."""
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
            "columns",
            "encoding",
            "subset",
            "rows",
            "unsure_below",
            "precision",
        )
    }
    rest = {
        "seed": adapter.seed,
        "tuned": adapter.tuned,
        "measured": adapter.measured,
        "metric": adapter.metric,
        "scores": dict(adapter.scores),
    }
    return {
        **kept,
        **rest,
        "settings": asdict(adapter.config),
        "training": dict(adapter.training),
        "cue_parameters": cue,
        "head_parameters": head,
    }


def _scores(adapter: Adapter) -> None:
    subset = f" - a SUBSET: {adapter.subset}" if adapter.subset else ""
    print_line(
        f"{adapter.measured}{subset}: "
        + "  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in adapter.scores.items())
    )
