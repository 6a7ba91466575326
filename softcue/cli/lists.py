"""What there is: methods, benchmarks and backbones, listed."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from softcue.cli.lines import print_json, print_line, print_table
from softcue.cues import Cue
from softcue.encoder.load import BACKBONES, FAMILIES
from softcue.errors import one_line
from softcue.protocol import Dims, Facts
from softcue.tasks import all_tasks, present
from softcue.training.full import METHOD as FULL

BERT_BASE = Dims(layers=12, hidden=768, heads=12, embed=768, ff=3072, pooler=True)
BERT_BASE_TOTAL = 109_482_240  # bert-base-uncased, encoder and pooler


def show_methods(as_json: bool) -> None:
    """Print each method with a line about it, its settings and its number of trained parameters.

    The numbers are for bert-base, the default settings and single texts.
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
                "parameters": count,
                "share": count / BERT_BASE_TOTAL,
            }
        )
    about = "Full fine-tuning: the whole encoder, for comparison; saves a checkpoint."
    rows.append({"method": FULL, "about": about, "settings": {}, "parameters": BERT_BASE_TOTAL, "share": 1.0})
    if as_json:
        print_json(rows)
        return
    table = Table("method", "about", "parameters", "share", "settings (--set NAME=VALUE)", show_lines=True)
    for row in rows:
        settled = one_line(", ".join(f"{k}={v}" for k, v in row["settings"].items()))
        table.add_row(row["method"], row["about"], f"{row['parameters']:,}", f"{row['share']:.3%}", settled)
    print_table(table)


def show_tasks(root: Path | None, as_json: bool) -> None:
    """Print benchmarks and where they are: their folder under the data root, or the hub."""
    found = [(task, present(task, root)) for task in all_tasks()]
    if as_json:
        print_json(
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
    print_table(table)


def show_backbones(as_json: bool) -> None:
    """Print aliases and families."""
    if as_json:
        print_json({"aliases": BACKBONES, "families": sorted(FAMILIES)})
        return
    for alias, about in BACKBONES.items():
        print_line(f"{alias}: {about}")
    print_line(
        "families (a folder with config.json and safetensors, or a Hugging Face id): "
        f"{', '.join(sorted(FAMILIES))}"
    )
