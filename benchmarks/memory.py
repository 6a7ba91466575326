"""Peak memory of training above the imported libraries, each side in a process of its own."""

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks import ours, peers
from benchmarks.common import Options, Results, read_options

FULL, BEST = "peers full", "peers full, best"  # all others are compared with the first
SIDES = (
    "softcue pasta",
    "softcue apt",
    "softcue lora",
    "softcue full",
    "peers prefix",
    "peers lora",
    BEST,
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


def measure(side: str, size: str, full: float | None, options: Options) -> list[dict[str, Any]]:
    """One side's row; `full` is the MB of FULL, None where it is this side."""
    used = megabytes(side, size, options)
    return [{"backbone": size, "side": side, "MB": used, "x transformers full": used / (full or used)}]


def megabytes(side: str, size: str, options: Options) -> float:
    """What one side takes in a process of its own."""
    words = [
        sys.executable,
        "-m",
        "benchmarks.memory",
        "--child",
        *side.removesuffix(", best").split(),
        size,
        options.device,
        str(int(side == BEST)),
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
    results = Results("memory", options)
    for size in sizes:
        ours.backbone(size)  # the random checkpoint is written once, by the parent
        (full,) = results.add({"backbone": size, "side": FULL}, partial(measure, FULL, size, None, options))
        for side in SIDES:
            results.add({"backbone": size, "side": side}, partial(measure, side, size, full["MB"], options))
    results.finish()


if __name__ == "__main__":
    main()
