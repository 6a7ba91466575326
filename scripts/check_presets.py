"""Checks the shipped presets on data sets that no preset was chosen on: every method as
`softcue train` runs it with no flags.

    python -m scripts.check_presets --data-root DATA            # hours; the same command goes on after a kill
    python -m scripts.check_presets --data-root DATA --sets cola,gum --methods pasta,full

At most 2,000 training rows, three seeds (packed in one loop), a tenth of train selects, and the rows reported
choose nothing. Writes a JSON for each data set to OUT; `python -m scripts.presets_page` makes docs/presets.md
of them.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import Options, machine
from scripts.find_presets import HELD_BACK
from softcue.base import Base, open_base
from softcue.errors import SoftcueError
from softcue.files import read_json, write_file
from softcue.readers import Data
from softcue.readers.splits import select
from softcue.studies.compare import MAJORITY, majority
from softcue.studies.compare_table import TableRow, row_summary
from softcue.tasks import open_data
from softcue.training.conditions import identity
from softcue.training.full import METHOD as FULL
from softcue.training.full import train_full
from softcue.training.job import Job
from softcue.training.jobs import train_jobs
from softcue.training.settings import preset, preset_config

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "presets"
METHODS = ("probe", "pasta", "stp", "spt", "gpc", "apt", "ptuning", "lora", FULL)
OPTIONS = Options(device="cpu", quick=False, threads=torch.get_num_threads(), clock="wall", repeat=1)
ROWS = 2_000
SEEDS = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, train, write."""
    sets = [name for names in HELD_BACK.values() for name in names]
    check_sets("check_presets", __doc__ or "", RESULTS, sets, METHODS, arguments)


def check_sets(
    script: str,
    told: str,
    out: Path,
    sets: Sequence[str],
    methods: Sequence[str],
    arguments: Sequence[str] | None,
    made: Callable[[Data], Data] = lambda data: data,
) -> None:
    """Read a script's command line, and check its methods on its data sets, each into a file of its own.

    told: the script's docstring. out, sets, methods: where the command line names none. made: of a data set
    as it was read.
    """
    parser = argparse.ArgumentParser(description=told.splitlines()[0])
    parser.add_argument(
        "--data-root", type=Path, required=True, help="folder with a folder for each data set"
    )
    parser.add_argument("--out", type=Path, default=out, help="folder of a JSON for each data set")
    parser.add_argument("--sets", default=",".join(sets), help="names with commas between")
    parser.add_argument("--methods", default=",".join(methods), help="names with commas between")
    parser.add_argument("--rows", type=int, default=ROWS, help="cap on training rows")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--backbone", default="minilm")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        base = open_base(given.backbone)
        for name in given.sets.split(","):
            data = made(open_data(name, data_root=given.data_root, limit={"train": given.rows}))
            check(
                data,
                given.methods.split(","),
                range(given.seeds),
                base,
                given.out / f"{name}-{given.rows}.json",
            )
    except SoftcueError as error:
        sys.exit(f"{script}: {error}")


def check(data: Data, methods: Sequence[str], seeds: Sequence[int], base: Base, file: Path) -> None:
    """Train and score what `file` does not hold yet, and write it after each method."""
    selection = select(data, 0, from_train=True)
    held = read_json(file, SoftcueError)["table"] if file.exists() else {}
    table = {
        MAJORITY: row_summary(
            TableRow(MAJORITY, [majority(data, seed, base.text) for seed in seeds]), data.metrics
        ),
        **held,
    }
    for method in methods:
        jobs = [Job(data, method, seed=seed, from_train=True) for seed in seeds]
        made_with = hashlib.sha256(json.dumps(identity(jobs, base)).encode()).hexdigest()
        if table.get(method, {}).get("made_with") == made_with:
            continue
        began = time.monotonic()
        scores = train(jobs, base)
        here, settled = machine(OPTIONS), preset(method, data.kind, len(selection.train), {})
        table[method] = {
            **row_summary(
                TableRow(method, [{name: float(own[name]) for name in data.metrics} for own in scores]),
                data.metrics,
            ),
            "config": preset_config(method, data.kind),
            "rate": settled.rate,
            "head_rate": settled.head_rate,
            "epochs": settled.epochs,
            "tolerance": settled.tolerance,
            "seconds": time.monotonic() - began,
            "commit": here["commit"],
            "made_with": made_with,
        }
        told = table[method]["scores"][data.metric]
        print(
            f"{data.name} {method}: {data.metric} {told['mean']:.4f}, {table[method]['seconds']:.0f} s",
            flush=True,
        )
        result = {
            "data": data.name,
            "kind": data.kind,
            "metrics": list(data.metrics),
            "rows": {
                "train": len(selection.train),
                "selection": len(selection.select),
                "reported": len(selection.report),
            },
            "measured": selection.measured,
            "machine": here,
            "table": {name: table[name] for name in (MAJORITY, *METHODS) if name in table},
        }
        write_file(file, json.dumps(result, indent=1).encode())


def train(jobs: Sequence[Job], base: Base) -> list[Mapping[str, Any]]:
    """The scores of each job."""
    if jobs[0].method == FULL:
        return [train_full(job, base).scores for job in jobs]
    return [adapter.scores for adapter in train_jobs(jobs, base)]


if __name__ == "__main__":
    main()
