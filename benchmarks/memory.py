"""Peak memory of training above the imported libraries, each side in a process of its own."""

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks import ours, peers
from benchmarks.common import Options, read_options, write

SIDES = (
    "softcue pasta",
    "softcue apt",
    "softcue lora",
    "softcue full",
    "peers prefix",
    "peers lora",
    "peers full",
)
STEPS = 4


def peak(device: str) -> float:
    """This process's largest resident size so far, or on a GPU its most memory there; MB."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(whose: str, method: str, size: str, device: str, best: bool) -> None:
    """Train for a few steps and print how far the peak rose above what the imports took."""
    before = peak(device)
    work = ours.workload("mrpc", STEPS * ours.BATCH)
    if whose == "softcue":
        ours.training(ours.backbone(size, device), method, work)(work.random)
    else:
        peers.training(peers.open_peer(size, method, work, device), best)(work.random)
    print(peak(device) - before)


def measure(side: str, size: str, best: bool, options: Options) -> float:
    """MB of one side."""
    words = [
        sys.executable,
        "-m",
        "benchmarks.memory",
        "--child",
        *side.split(),
        size,
        options.device,
        str(int(best)),
    ]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": str(options.threads)},
    )
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.split()[-1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["--child"]:
        child(given[1], given[2], given[3], given[4], given[5] == "1")
        return
    options = read_options(__doc__, given)
    sizes = ("minilm",) if options.quick else ("minilm", "bert-base")
    rows: list[dict[str, Any]] = []
    for size in sizes:
        ours.backbone(size)  # the random checkpoint is written once, by the parent
        full = measure("peers full", size, False, options)
        for side in SIDES:
            used = full if side == "peers full" else measure(side, size, False, options)
            rows.append({"backbone": size, "side": side, "MB": used, "x transformers full": used / full})
        used = measure("peers full", size, True, options)
        rows.append(
            {"backbone": size, "side": "peers full, best", "MB": used, "x transformers full": used / full}
        )
    write("memory", rows, options)


if __name__ == "__main__":
    main()
