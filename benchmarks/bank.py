"""A bank of 100,000 adapters: adding the first and the last, cold loads, what it takes, and compaction.

It takes 4 GB of a temporary folder. Processor time and wall time are both told: on a shared machine the first
says what the work is, and the second holds the disk's part and the neighbours'.
"""

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from ast import literal_eval
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.adapters import random_adapter
from benchmarks.common import Options, Results, read_options
from softcue.adapter import Adapter
from softcue.bank import Bank
from softcue.bank.record import to_record
from softcue.bank.writing import Fresh, take_out

SMALL, LARGE = 7, 183  # labels that make records of about 30 and 300 KB
CHECKED = 1000  # adapters that are added in the usual way; the rest are records that are known to be sound
DIFFERENT = 64  # records; the rest repeat them under other names
SINGLE, LOADS = 30, 2000
ROOM = 10 * 2**30  # bytes that must be free


def random_numbers(labels: int, seed: int) -> Adapter:
    """A PASTA adapter of some labels."""
    return random_adapter("pasta", seed, [f"label {at}" for at in range(labels)])


def clocked(run: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds of this process's processor time, and of wall time."""
    processor, wall = time.process_time(), time.perf_counter()
    run()
    return 1e3 * (time.process_time() - processor), 1e3 * (time.perf_counter() - wall)


def row(what: str, taken: Sequence[tuple[float, float]], **more: Any) -> dict[str, Any]:
    """Middle and 99th percentile of both clocks."""
    found: dict[str, Any] = {"what": what, "times": len(taken)}
    for name, times in zip(("processor", "wall"), zip(*taken, strict=True), strict=True):
        found[f"{name} ms, p50"] = statistics.median(times)
        found[f"{name} ms, p99"] = sorted(times)[int(0.99 * (len(times) - 1))]
    return {**found, **more}


def single_adds(banks: dict[str, Bank]) -> list[dict[str, Any]]:
    """Adapters that are added one by one, each synced and committed, to the banks in turn."""
    taken: dict[str, list[tuple[float, float]]] = {what: [] for what in banks}
    for seed in range(SINGLE):
        adapter = random_numbers(SMALL, seed)
        for what, bank in banks.items():
            taken[what].append(clocked(partial(bank.add, f"single-{seed}", adapter)))
    return [row(what, times) for what, times in taken.items()]


def fill(bank: Bank, prefix: str, labels: int, count: int, what: str) -> dict[str, Any]:
    """Many records, in groups that are synced together."""
    adapters = [random_numbers(labels, seed) for seed in range(DIFFERENT)]
    records = [to_record(adapter.to_files("here")) for adapter in adapters]

    def run() -> None:
        for start in range(0, count, 1000):
            numbers = range(start, min(start + 1000, count))
            bank._store(
                [Fresh(f"{prefix}{n:06}", adapters[n % DIFFERENT], records[n % DIFFERENT]) for n in numbers]
            )

    processor, wall = clocked(run)
    return row(what, [(processor / count, wall / count)], adapters=count, record=len(records[0]))


def resident() -> float:
    """Resident memory of this process now, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def forget(bank: Bank) -> None:
    """Let the system drop what it keeps of the slabs in memory."""
    for slab in bank.slabs.there():
        descriptor = os.open(bank.slabs.file(slab), os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read(path: str, count: int, large: int) -> None:
    """A reader's process: open the bank, load at random, and look at pages; print its rows."""
    torch.set_num_threads(1)
    chance, rows = random.Random(1), []
    warm = random_numbers(SMALL, 0).to_files("here")
    Adapter.from_files(warm, "here")
    before = resident()
    bank = Bank(path)
    for size, prefix, there in (("30 KB", "small-", count), ("300 KB", "large-", large)):
        for disk in ("cold disk", "warm disk"):
            names = [f"{prefix}{chance.randrange(there):06}" for _ in range(LOADS)]
            taken = []
            for at, name in enumerate(names):
                if disk == "cold disk" and at % 20 == 0:
                    forget(bank)
                taken.append(clocked(lambda name=name: bank.load(bank.find(name))))  # type: ignore[misc]
            rows.append(row(f"find and load {size}, {disk}", taken))
    names = [f"small-{chance.randrange(count):06}" for _ in range(LOADS)]
    rows.append(row("find", [clocked(partial(bank.find, name)) for name in names]))
    rows.append(row("page of 100", [clocked(partial(bank.page, name)) for name in names[:200]]))
    rows.append(
        row("search that finds nothing", [clocked(partial(bank.page, "", 100, "x")) for _ in range(20)])
    )
    rows.append(row("count", [clocked(bank.count) for _ in range(20)]))
    rows.append({"what": "resident memory of a reader grew, MB", "MB": resident() - before})
    print(rows)


def compaction(bank: Bank, count: int) -> dict[str, Any]:
    """Remove a third of the first third, and compact the slabs that they lay in."""
    with bank.changing() as index:
        for number in range(0, count // 3, 3):
            take_out(index, f"small-{number:06}")
    before = bank.stats()
    taken = clocked(bank.compact)
    after = bank.stats()
    return row(
        "compaction",
        [taken],
        freed=before.bytes_dead - after.bytes_dead,
        dead_after=after.bytes_dead,
    )


def measure(count: int, options: Options) -> list[dict[str, Any]]:
    """All rows, of one bank in a temporary folder."""
    place = Path(tempfile.mkdtemp(prefix="softcue-bank-"))
    large = max(DIFFERENT, count // 100)
    try:
        if shutil.disk_usage(place).free < ROOM:
            raise SystemExit(f"bank: {place} has too little room; expected {ROOM:,} bytes, or set TMPDIR")
        bank = Bank.create(place / "bank")
        checked = [(f"checked-{at:06}", random_numbers(SMALL, at)) for at in range(CHECKED)]
        taken = clocked(partial(bank.add_all, checked))
        rows = [row("add_all, each", [(taken[0] / CHECKED, taken[1] / CHECKED)], adapters=CHECKED)]
        rows.append(fill(bank, "small-", SMALL, count, "sound records of 30 KB, each"))
        empty = Bank.create(place / "empty")
        rows += single_adds({"add to an empty bank": empty, f"add behind {count:,}": bank})
        rows.append(fill(bank, "large-", LARGE, large, "sound records of 300 KB, each"))
        stats = bank.stats()
        index = bank.index.file.stat().st_size
        rows.append({"what": "bytes", "live": stats.bytes_live, "dead": stats.bytes_dead, "index": index})
        words = [sys.executable, "-m", "benchmarks.bank", "--child", str(bank.path), str(count), str(large)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise SystemExit(f"bank: {done.stderr.strip().splitlines()[-1]}")
        rows += literal_eval(done.stdout)
        rows.append(compaction(bank, count))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    load = os.getloadavg()[0]
    return [
        {"bank": count, **own, **({"load of the machine": load} if own is rows[0] else {})} for own in rows
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["--child"]:
        read(given[1], int(given[2]), int(given[3]))
        return
    options = read_options(__doc__, given, devices=("cpu",))
    count = 2_000 if options.quick else 100_000
    results = Results("bank", options)
    results.add({"bank": count}, partial(measure, count, options))
    results.finish()


if __name__ == "__main__":
    main()
