"""The server under load: 1,000 adapters of five methods, Zipf-distributed, 64 connections, real texts; beside
the same server with one adapter, a server that runs transformers for each request, and one that switches
PEFT's adapters.

Each server has a process of its own and is measured in turn; the load comes from this process, on the same
cores.
"""

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy

from benchmarks import ours
from benchmarks.adapters import METHODS, random_adapter
from benchmarks.common import Options, Results, read_options
from benchmarks.load import Request, Tally, closed_loop, each_once, fixed_rate, request
from softcue.bank.bank import Bank
from softcue.tasks import data_root, open_data

ADAPTERS, CONNECTIONS, PEFT_ADAPTERS = 1_000, 64, 100
ZIPF = 1.1  # exponent of the adapters' popularity
SECONDS = {True: 5.0, False: 20.0}  # of one measurement, by --quick
START = 120.0  # seconds that a server may take to come up


def fill(path: Path, count: int) -> None:
    """Write a bank of `count` adapters, a0, a1, ..., of the methods in turn."""
    mark = ours.backbone("minilm", "cpu").fingerprint
    Bank.create(path).add_all(
        (f"a{i}", random_adapter(METHODS[i % len(METHODS)], i, fingerprint=mark)) for i in range(count)
    )


def traffic(adapters: int, count: int = 20_000) -> list[Request]:
    """Requests of real texts, each for an adapter drawn by Zipf's law."""
    data = open_data("sst2", data_root=data_root(None))
    texts = [row.text for row in data.splits["dev"]] + [row.text for row in data.splits["train"][:5_000]]
    random = numpy.random.default_rng(0)
    share = 1 / numpy.arange(1, adapters + 1) ** ZIPF
    drawn = random.choice(random.permutation(adapters), count, p=share / share.sum())
    return [
        request("/predict", {"inputs": texts[i % len(texts)], "adapter": f"a{one}"})
        for i, one in enumerate(drawn)
    ]


def greetings(adapters: int) -> list[Request]:
    """A short request for each adapter."""
    return [request("/predict", {"inputs": "hello", "adapter": f"a{i}"}) for i in range(adapters)]


@contextmanager
def server(command: Sequence[str]):  # type: ignore[no-untyped-def]
    """Start a server on a free port, yield its port and process, and end it."""
    with socket.socket() as spare:
        spare.bind(("127.0.0.1", 0))
        port = spare.getsockname()[1]
    process = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        _await(port, process)
        yield port, process
    finally:
        process.terminate()
        process.wait(60)


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"serving: a server ended with {process.returncode} before it answered")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=1).read()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("serving: a server did not come up")


def resident(process: subprocess.Popen[bytes]) -> float:
    """Megabytes that a process holds in memory."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


def ours_command(bank: Path, *more: str) -> list[str]:
    """The command that serves a bank."""
    return [str(Path(sys.executable).parent / "softcue"), "serve", str(bank), "--backbone", "minilm", *more]


def measure(options: Options) -> list[dict[str, Any]]:
    """Serve and load every side, in turn, `options.repeat` times."""
    with tempfile.TemporaryDirectory() as folder:
        many, one = Path(folder) / "many", Path(folder) / "one"
        fill(many, ADAPTERS)
        fill(one, 1)
        rival = [sys.executable, "-m", "benchmarks.serving_rivals"]
        sides = {
            "softcue, 1,000 adapters": (ours_command(many), ADAPTERS),
            "softcue, 1 adapter": (ours_command(one), 1),
            "transformers, each request by itself": ([*rival, "transformers"], 1),
            "PEFT, switching adapters": ([*rival, "peft", "--adapters", str(PEFT_ADAPTERS)], PEFT_ADAPTERS),
        }
        found: dict[str, list[Load]] = {name: [] for name in sides}
        for number in range(options.repeat):
            for name in list(sides) if number % 2 else reversed(list(sides)):
                command, adapters = sides[name]
                found[name].append(_load(command, adapters, SECONDS[options.quick]))
    rates = {name: [load.warm.rate for load in rounds] for name, rounds in found.items()}
    ours_rates = rates["softcue, 1,000 adapters"]
    return [
        {
            "side": name,
            "requests/s": median(rates[name]),
            "spread": (max(rates[name]) - min(rates[name])) / 2 / median(rates[name]),
            "softcue's 1,000 x": median(a / b for a, b in zip(ours_rates, rates[name], strict=True)),
            "at first": median(load.cold.rate for load in rounds),
            "p50 ms": 1e3 * median(load.warm.percentile(50) for load in rounds),
            "p99 ms": 1e3 * median(load.warm.percentile(99) for load in rounds),
            "memory MB": median(load.memory for load in rounds),
            "not 200": sum(len(v) for load in rounds for s, v in load.warm.seconds.items() if s != 200),
        }
        for name, rounds in found.items()
    ]


@dataclass(frozen=True)
class Load:
    """What one server did in one round."""

    cold: Tally  # in its first seconds, when adapters are read
    warm: Tally  # when all have been read
    memory: float  # MB at the end


def _load(command: Sequence[str], adapters: int, seconds: float) -> Load:
    requests = traffic(adapters)
    with server(command) as (port, process):
        cold = asyncio.run(closed_loop(port, requests, CONNECTIONS, seconds))
        asyncio.run(each_once(port, greetings(adapters), CONNECTIONS))
        rest = requests[cold.answered % len(requests) :]
        return Load(cold, asyncio.run(closed_loop(port, rest, CONNECTIONS, seconds)), resident(process))


def overload(options: Options) -> list[dict[str, Any]]:
    """Send four times what the server answers, for a while, and see how it is ten seconds later."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder) / "bank", 100)
        requests, seconds = traffic(100), SECONDS[options.quick] * 3
        with server(ours_command(Path(folder) / "bank", "--deadline", "4")) as (port, _):
            asyncio.run(closed_loop(port, requests, CONNECTIONS, 3))
            usual = asyncio.run(closed_loop(port, requests, CONNECTIONS, seconds / 3))
            flood = asyncio.run(fixed_rate(port, requests, 4 * usual.rate, seconds))
            time.sleep(10)
            after = asyncio.run(closed_loop(port, requests, CONNECTIONS, seconds / 3))
    return [
        {
            "phase": phase,
            "requests/s": tally.rate,
            "answered": tally.answered,
            "429": len(tally.seconds.get(429, [])),
            "other": sum(len(v) for s, v in tally.seconds.items() if s not in (200, 429)) + tally.lost,
            "p50 ms": 1e3 * tally.percentile(50),
            "p99 ms": 1e3 * tally.percentile(99),
            "429 p99 ms": 1e3 * tally.percentile(99, 429) if 429 in tally.seconds else 0.0,
        }
        for phase, tally in (("usual", usual), ("four times that", flood), ("10 s later", after))
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    options = read_options(__doc__ or "", arguments, devices=("cpu",))
    results = Results("serving", options)
    results.add({"side": "softcue, 1,000 adapters"}, partial(measure, options))
    results.add({"phase": "usual"}, partial(overload, options))
    results.finish()


if __name__ == "__main__":
    main()
