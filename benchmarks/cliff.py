"""The cliff: requests of many adapters with memory for a hundredth of them, against all of them in seats.
64 asyncio clients ask the service itself, Zipf over the adapters: python -m benchmarks.cliff
"""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.adapters import random_adapter
from benchmarks.common import Options, Results, Row, precision, read_options
from softcue.adapter import Adapter
from softcue.bank.bank import Bank
from softcue.base import Base, open_base
from softcue.serving.service import Service

CLIENTS = 64
TEXT = "it was the best of times and then worst so they went by train"


def fill(path: Path, base: Base, count: int) -> Bank:
    """A bank of random adapters."""
    made = [random_adapter("pasta", seed, fingerprint=base.fingerprint) for seed in range(32)]
    bank = Bank.create(path)
    bank.add_all((f"a{number}", made[number % len(made)]) for number in range(count))
    return bank


def seat_bytes(base: Base, adapter: Adapter) -> int:
    """What one adapter takes in its slabs, a head of two labels being one of four rows."""
    width = next(base.backbone.encoder.parameters()).itemsize
    hidden = adapter.head["weight"].shape[-1]
    return sum(tensor.numel() for tensor in adapter.cue.values()) * width + 4 * 4 * (hidden + 1) + 8


async def load(service: Service, count: int, requests: int) -> list[float]:
    """Seconds of each request."""
    weights, words = [1 / (rank + 1) for rank in range(count)], TEXT.split()
    seconds: list[float] = []

    async def client(seed: int) -> None:
        chance = random.Random(seed)
        names = chance.choices(range(count), weights, k=requests // CLIENTS)
        for name in names:
            text = " ".join(chance.choices(words, k=chance.randrange(5, 40)))
            began = time.perf_counter()
            await service.answer([{"adapter": f"a{name}", "text": text}])
            seconds.append(time.perf_counter() - began)

    await asyncio.gather(*(client(seed) for seed in range(CLIENTS)))
    return seconds


def measure(base: Base, count: int, requests: int, rounds: int) -> list[Row]:
    """Both sides in turn, round by round, after one round that does not count."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(base, fill(Path(folder) / "bank", base, count), count, requests, rounds)


def _measure(base: Base, source: Bank, count: int, requests: int, rounds: int) -> list[Row]:
    whole = seat_bytes(base, source.load(source.find("a0"))) * count
    # twice, for slabs that grow by halves of what is left come close to the bound and not to it
    sides = {
        "all in seats": Service(base, source, memory=2 * whole),
        "1 of 100": Service(base, source, memory=whole // 100),
    }
    taken: dict[str, list[Sequence[float]]] = {side: [] for side in sides}

    async def turns() -> None:
        for number in range(rounds + 1):
            for side, service in sides.items():
                if number == 0:
                    for first in range(count if side == "all in seats" else 0):
                        service.hot.release(service.hot.lease(source.find(f"a{first}")).result())
                seconds = await load(service, count, requests if number else requests // 4)
                if number:
                    taken[side].append(seconds)

    asyncio.run(turns())
    rows: list[Row] = []
    p99 = {side: [statistics.quantiles(one, n=100)[98] for one in of] for side, of in taken.items()}
    for side, service in sides.items():
        facts = service.facts()
        rows.append(
            {
                "adapters": count,
                "side": side,
                "seats": facts["seats"],
                "p50 ms": 1e3 * statistics.median([s for one in taken[side] for s in one]),
                "p99 ms": 1e3 * statistics.median(p99[side]),
                "p99 ratio": statistics.median(
                    [a / b for a, b in zip(p99[side], p99["all in seats"], strict=True)]
                ),
                "hits": facts["hits"] / (facts["hits"] + facts["misses"]),
                "rows a batch": facts["batch_rows"],
            }
        )
        asyncio.run(service.close())
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write benchmarks/results/.../cliff.json."""
    options: Options = read_options(__doc__ or "", arguments)
    torch.set_num_threads(options.threads)
    results = Results("cliff", options)
    base = open_base("minilm", precision(options.device), options.device)
    count, requests = (300, 320) if options.quick else (1_000, 2_560)
    results.add(
        {"adapters": count}, lambda: measure(base, count, requests, 3 if options.quick else options.repeat)
    )
    results.finish()


if __name__ == "__main__":
    main()
