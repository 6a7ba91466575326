"""Twenty PASTA runs on 2,000 rows of sst2: one packed `softcue sweep` against twenty `softcue
train` one after another (one round).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.common import Options, Results, read_options
from softcue.tasks import data_root, open_data

RATES, SEEDS, ROWS, TARGET = (5e-3, 1e-2, 2e-2, 4e-2), 5, 2_000, {"cpu": 0.75, "cuda": 0.2}
QUICK_RATES, QUICK_SEEDS, QUICK_ROWS = (1e-2, 2e-2), 2, 200


def write_rows(folder: Path, rows: int) -> None:
    """Train and test alone, so that both sides select on a tenth of train."""
    root = data_root(None)
    if root is None:
        raise SystemExit("set SOFTCUE_DATA to the folder that holds sst2")
    data = open_data("sst2", data_root=root, limit={"train": rows})
    for split in ("train", "test"):
        lines = [json.dumps({"text": record.text, "label": record.label}) for record in data.splits[split]]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def seconds(command: Sequence[str], threads: int) -> float:
    """Wall time of a command of its own."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "softcue", *command, "--json"],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    return time.perf_counter() - began


def measure(rates: Sequence[float], seeds: int, rows: int, options: Options) -> list[dict[str, Any]]:
    """Both ways; they are one row, for only their ratio is a result."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "rows").mkdir()
        write_rows(place / "rows", rows)
        shared = [
            str(place / "rows"),
            "--method",
            "pasta",
            "--device",
            options.device,
            *(["--set", "epochs=2"] if options.quick else []),
        ]
        grid = "rate=" + ",".join(map(str, rates))
        packed = seconds(
            ["sweep", *shared, "--grid", grid, "--seeds", str(seeds), "--out", str(place / "sweep")],
            options.threads,
        )
        apart = 0.0
        for rate, seed in product(rates, range(seeds)):
            out = str(place / f"{rate}-{seed}")
            apart += seconds(
                ["train", *shared, "--set", f"rate={rate}", "--seed", str(seed), "--out", out],
                options.threads,
            )
    return [
        {
            "runs": len(rates) * seeds,
            "rows": rows,
            "device": options.device,
            "packed, s": packed,
            "one after another, s": apart,
            "ratio": packed / apart,
            "target": TARGET[options.device],
        }
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it; needs SOFTCUE_DATA with sst2 in it."""
    options = replace(read_options(__doc__ or "", arguments), repeat=1, clock="wall")
    rates, seeds, rows = (QUICK_RATES, QUICK_SEEDS, QUICK_ROWS) if options.quick else (RATES, SEEDS, ROWS)
    results = Results("packed_sweep", options)
    results.add({"runs": len(rates) * seeds}, partial(measure, rates, seeds, rows, options))
    results.finish()


if __name__ == "__main__":
    main()
