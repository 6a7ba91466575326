"""Trains and scores the cells of the study that are missing, each into a JSON file of its own.

    python -m studies.methods --data-root DATA                           # goes on where it was stopped
    python -m studies.methods --data-root DATA --mpnet FOLDER            # with the encoder of base size
    python -m studies.methods --data-root DATA --only minilm/glue-sst2/2000-rows/pasta-0 --anew
    python -m studies.methods --data-root DATA --device cuda --minutes 8
    python -m studies.methods --data-root DATA --list                    # what is missing

Without --mpnet the cells of that encoder are passed over. Two runs with parts of the study beside one another
may share a folder: --only takes the beginning of a name.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from softcue.base import Base, open_base
from softcue.errors import SoftcueError
from softcue.files import write_file
from studies.methods.cell import run_planned
from studies.methods.plan import MINILM, MPNET, PlannedCell, planned_cells

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, and run what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True, help="folder with a folder a data set")
    parser.add_argument("--mpnet", help="folder of all-mpnet-base-v2")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the cells")
    parser.add_argument("--only", default="", help="beginnings of cells' names with commas between")
    parser.add_argument("--anew", action="store_true", help="run cells again that are there")
    parser.add_argument("--list", action="store_true", help="name the missing cells, and run none")
    parser.add_argument("--minutes", type=float, help="begin no cell after so many minutes")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    encoders = {MINILM: "minilm"} | ({MPNET: given.mpnet} if given.mpnet or given.list else {})
    begun = tuple(given.only.split(","))
    wanted = [
        cell
        for cell in planned_cells()
        if cell.encoder in encoders
        and cell.name.startswith(begun)
        and (given.anew or not file_of(cell, given.out).exists())
    ]
    if given.list:
        print("\n".join(cell.name for cell in wanted))
        return
    end = None if given.minutes is None else time.monotonic() + given.minutes * 60
    try:
        run_all(wanted, encoders, given.data_root, given.out, given.device, end, given.anew)
    except SoftcueError as error:
        sys.exit(f"studies.methods: {error}")


def run_all(
    cells: Sequence[PlannedCell],
    encoders: dict[str, str],
    root: Path,
    out: Path,
    device: str,
    end: float | None,
    anew: bool,
) -> None:
    """Run cells in turn and write each as soon as it is done; none begins after `end`."""
    bases: dict[str, Base] = {}
    for cell in cells:
        if end is not None and time.monotonic() > end:
            return
        if file_of(cell, out).exists() and not anew:  # by another run in the meantime
            continue
        if cell.encoder not in bases:
            bases[cell.encoder] = open_base(encoders[cell.encoder], device=device)
        found = run_planned(cell, bases[cell.encoder], root, device)
        file_of(cell, out).parent.mkdir(parents=True, exist_ok=True)
        write_file(file_of(cell, out), (json.dumps(found, indent=1) + "\n").encode())
        metric = found["metrics"][0]
        print(
            f"{cell.name}: {metric} {found['scores'][metric]:.4f}, {found['seconds']['wall']:.0f} s",
            flush=True,
        )


def file_of(cell: PlannedCell, out: Path) -> Path:
    """Return where a cell's result lies."""
    return out / f"{cell.name}.json"


if __name__ == "__main__":
    main()
