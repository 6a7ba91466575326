"""What all benchmarks share: alternating rounds, medians, the machine they ran on, files that grow row by
row, and tables.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing import connection
from pathlib import Path
from typing import Any, TypeVar

import torch

from softcue.base import best_dtype, check_device
from softcue.errors import SoftcueError
from softcue.files import check_file, read_json, write_file

T = TypeVar("T")
Row = Mapping[str, Any]
Turn = Callable[[], Any]
Maker = Callable[[], Sequence[Turn]]
RESULTS = Path(__file__).parent / "results"
CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
UNCHANGING = ("benchmarks/results", "docs", "tests", "*.md")  # what no figure depends on, as git's patterns


@dataclass(frozen=True)
class Options:
    """What every benchmark can be told."""

    device: str  # cpu, or cuda
    quick: bool  # about a minute
    threads: int
    clock: str  # "cpu" counts this process's own time: with one thread it bears neighbours on the machine
    repeat: int  # rounds
    anew: bool = False  # what was measured under other conditions is replaced

    @property
    def kind(self) -> str:
        """What the device is best at, which says what ratios can be: results of one kind lie in
        a folder of their own.
        """
        return "cuda" if self.device == "cuda" else precision(self.device)


def precision(device: str) -> str:
    """bfloat16 where the device has units for it, else float32."""
    return str(best_dtype(device)).removeprefix("torch.")


def read_options(
    description: str, arguments: Sequence[str] | None, devices: Sequence[str] = ("cpu", "cuda")
) -> Options:
    """Parse a benchmark's command line and set torch's threads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", choices=devices, default="cpu")
    parser.add_argument("--quick", action="store_true", help="fewer rows and sides, about a minute")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: process time, for a shared machine (with --threads 1)",
    )
    parser.add_argument("--repeat", type=int, default=7, help="rounds of each side")
    parser.add_argument(
        "--anew", action="store_true", help="replace results that were measured under other conditions"
    )
    given = parser.parse_args(arguments)
    try:
        check_device(given.device)
    except SoftcueError as error:
        parser.error(str(error))
    torch.set_num_threads(given.threads)
    return Options(given.device, given.quick, given.threads, given.clock, given.repeat, given.anew)


@dataclass(frozen=True)
class Times:
    """Seconds of one side in every round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        if len(self.seconds) < 4:
            return (max(self.seconds) - min(self.seconds)) / 2 / self.median
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2 / self.median

    def over(self, other: "Times") -> float:
        """How many times longer than `other` this took: the median of rounds that stood side by side."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


def alternate(sides: Mapping[str, Turn], options: Options) -> dict[str, Times]:
    """Time all sides in turn, round by round, after one round that does not count; every other
    round runs backwards.
    """
    return _rounds(
        {name: partial(_clocked, run, options.clock) for name, run in sides.items()}, options.repeat
    )


def paired(makers: Mapping[tuple[str, ...], Maker], options: Options) -> dict[str, Times]:
    """As `alternate`, with sides made and run in processes of their own, of which one works at a time.

    torch keeps what it made ready for a thousand shapes of products; sides in one process would push out each
    other's. A maker makes the sides of one process, whose names are its key. It travels by name: a function
    of a module, or functools.partial of one.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["benchmarks.ours", "benchmarks.peers"])
    with ExitStack() as stack:
        sides: dict[str, Callable[[], float]] = {}
        for names, make in makers.items():
            process = stack.enter_context(
                ProcessPoolExecutor(1, processes, _open_sides, (make, options.threads))
            )
            sides |= {
                name: partial(_turn_elsewhere, process, number, options.clock)
                for number, name in enumerate(names)
            }
        return _rounds(sides, options.repeat)


def _rounds(sides: Mapping[str, Callable[[], float]], count: int) -> dict[str, Times]:
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(count + 1):
        for name in list(sides) if number % 2 else reversed(list(sides)):
            taken = sides[name]()
            if number:
                seconds[name].append(taken)
    return {name: Times(tuple(taken)) for name, taken in seconds.items()}


def _clocked(run: Turn, clock: str) -> float:
    began = CLOCKS[clock]()
    run()
    settle()
    return CLOCKS[clock]() - began


def settle() -> None:
    """Wait for what a GPU was given to do."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


_sides: Sequence[Turn]  # of this process, where `paired` started it


def _open_sides(make: Maker, threads: int) -> None:
    global _sides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _sides = make()


def _end_with_parent() -> None:
    """A benchmark that is killed leaves no process that takes memory and time from the next one."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _turn(number: int, clock: str) -> float:
    return _clocked(_sides[number], clock)


def _turn_elsewhere(process: ProcessPoolExecutor, number: int, clock: str) -> float:
    return process.submit(_turn, number, clock).result()


def in_turn(run: Callable[[T], Any], parts: Iterable[T]) -> Turn:
    """A side that takes the next part at each call: like an epoch, which never shows the same batch again."""
    turn = iter(parts)
    return lambda: run(next(turn))


def machine(options: Options) -> dict[str, Any]:
    """What a figure means nothing without; `changes` tells changes that are in no commit from one another."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = found.get("flags", "").split()
    changes = _git("diff", "HEAD", "--", ":/", *(f":(top,exclude){path}" for path in UNCHANGING))
    return {
        "processor": found.get("model name", platform.processor()),
        **({"device": torch.cuda.get_device_name(options.device)} if options.kind == "cuda" else {}),
        "units": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags],
        "threads": options.threads,
        "clock": options.clock,
        "rounds": options.repeat,
        "quick": options.quick,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "peft")},
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed": bool(changes),
        **({"changes": hashlib.sha256(changes.encode()).hexdigest()[:12]} if changes else {}),
    }


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()


class Results:
    """A benchmark's file: results/<kind>/<name>.json, or <name>-quick.json of a quick run. It is written
    whole after each case; the same command goes on where it was stopped.

    A case is what is measured together: the rows that have some columns in common. Their values say whether a
    file holds the case already.
    """

    def __init__(self, name: str, options: Options) -> None:
        """Read the rows that are there already; SystemExit in one line where they are of other conditions."""
        self.name, self.machine, self.rows = name, machine(options), list[Row]()
        self.file = RESULTS / options.kind / f"{name}{'-quick' if options.quick else ''}.json"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        try:
            check_file(self.file)
            held = read_json(self.file, SoftcueError) if self.file.exists() else {}
            if not isinstance(held, dict):
                raise SoftcueError(f"{self.file}: expected an object with machine and rows")
        except SoftcueError as error:
            raise SystemExit(f"{name}: {error}; delete the file to measure anew") from error
        differences = _differences(held.get("machine", {}), self.machine) if held else []
        if differences and not options.anew:
            raise SystemExit(
                f"{name}: {self.file} was measured under other conditions: {', '.join(differences)}; give "
                "--anew to replace it"
            )
        if held and not differences:
            self.rows += held["rows"]
            print(f"{name}: {len(self.rows)} rows are there; delete {self.file} to measure them again")

    def add(self, case: Row, measure: Callable[[], Sequence[Row]]) -> list[Row]:
        """The rows of a case: those that are there, or else what `measure` gives, written at once."""
        if not self._of(case):
            self.rows += measure()
            self._write(unfinished=True)
            print(f"{self.name}: {', '.join(map(str, case.values()))}: written", flush=True)
        return self._of(case)

    def finish(self) -> None:
        """Say in the file that nothing is left to measure, and print the table."""
        self._write(unfinished=False)
        print(table(self.rows))
        print(f"-> {self.file.parent.name}/{self.file.name}\n", flush=True)

    def _of(self, case: Row) -> list[Row]:
        return [row for row in self.rows if case.items() <= row.items()]

    def _write(self, unfinished: bool) -> None:
        held: dict[str, Any] = {"benchmark": self.name, "machine": self.machine, "rows": self.rows}
        held |= {"unfinished": True} if unfinished else {}
        write_file(self.file, (json.dumps(held, indent=2) + "\n").encode())


def _differences(there: Row, here: Row) -> list[str]:
    """What differs between two machines, each as "threads: 2 there, 1 here"."""
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    return [f"{key}: {there.get(key, 'none')} there, {here.get(key, 'none')} here" for key in keys]


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown; columns in the order in which they first appear."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *([_cell(row.get(column, "")) for column in columns] for row in rows)]
    head, *lines = ("| " + " | ".join(line) + " |" for line in cells)
    return "\n".join([head, "|" + "---|" * len(columns), *lines])


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
