"""Adapters are replaced and removed under load: every accepted request is answered by exactly one version."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.serving import resident
from softcue.bank.bank import Bank
from tests.answering.test_predict import random_adapter
from tests.serving.processes import started
from tests.serving.test_http_uploads import tar_of
from tests.serving.test_serve_command import TEXT, serve
from tests.tiny_base import tiny_base

NAMES = [f"task{number}" for number in range(24)]
METHODS = ("pasta", "spt", "lora", "ptuning", "apt")
CLIENTS, MANAGERS = 16, 2
GROWTH = 1.1  # of the server's memory, after a quarter of the time


class Ledger:
    """What the managers have done, and what the clients have seen."""

    def __init__(self) -> None:
        self.sent = Counter[str]()  # of each name, the number of the newest upload that was sent
        self.stored = Counter[str]()  # the newest that was acknowledged
        self.removals = Counter[str]()  # how often its removal was begun
        self.absent: set[str] = set()  # from the beginning of a removal to the next upload's end
        self.seen = Counter[int]()  # answers by status
        self.faults: list[str] = []

    async def ask(self, client: httpx.AsyncClient, name: str) -> None:
        """Ask three rows of one adapter, and judge the answer by what was known when it was sent."""
        oldest, removals, absent = self.stored[name], self.removals[name], name in self.absent
        answer = await client.post("/predict", json={"inputs": [[TEXT]] * 3, "adapter": name})
        self.seen[answer.status_code] += 1
        if answer.status_code == 404 and (absent or self.removals[name] > removals):
            return
        if answer.status_code != 200:
            self.faults.append(f"{name}: {answer.status_code} {answer.text[:200]}")
            return
        versions = {tuple(one["label"].split()[:2]) for row in answer.json() for one in row}
        allowed = {(name, str(number)) for number in range(oldest, self.sent[name] + 1)}
        if len(versions) != 1 or not versions <= allowed:
            self.faults.append(f"{name}: answered by {versions}, expected one of {allowed}")

    async def put(self, client: httpx.AsyncClient, name: str) -> str:
        """Upload the next version; return its full name."""
        self.sent[name] += 1
        answer = await client.put(f"/v1/adapters/{name}", content=upload(name, self.sent[name]))
        assert answer.status_code == 201, answer.text
        self.stored[name] = self.sent[name]
        self.absent.discard(name)
        return str(answer.json()["full_name"])

    async def remove(self, client: httpx.AsyncClient, name: str) -> None:
        """Remove all versions of a name, or one that was replaced."""
        if "@" not in name:
            self.removals[name] += 1
            self.absent.add(name)
        answer = await client.delete(f"/v1/adapters/{name}")
        assert answer.status_code == 200, answer.text


def upload(name: str, number: int) -> bytes:
    """An adapter whose labels say which upload it is."""
    method = METHODS[NAMES.index(name) % len(METHODS)]
    made = random_adapter(tiny_base(), method, seed=number % 5, classes=2)
    labels = f"{name} {number} no", f"{name} {number} yes"
    return tar_of(replace(made, labels=labels).to_files("here"))


async def scene(url: str, process: Any, seconds: float) -> tuple[Ledger, list[float]]:
    """Ask, replace and remove for some seconds; return the ledger and the memory over the time."""
    ledger, memory, end = Ledger(), list[float](), time.monotonic() + seconds

    async def ask(seed: int) -> None:
        chance = random.Random(seed)
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            while time.monotonic() < end:
                await ledger.ask(client, chance.choice(NAMES))

    async def manage(own: list[str], seed: int) -> None:
        chance, newest = random.Random(seed), dict[str, str]()
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            while time.monotonic() < end:
                name = chance.choice(own)
                if name in newest and chance.random() < 0.2:
                    await ledger.remove(client, name)
                    del newest[name]
                    continue
                before, newest[name] = newest.get(name), await ledger.put(client, name)
                if before is not None:
                    await ledger.remove(client, before)

    async def watch() -> None:
        while time.monotonic() < end:
            await asyncio.sleep(seconds / 20)
            memory.append(resident(process))

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for name in NAMES:
            await ledger.put(client, name)
    work = [ask(seed) for seed in range(CLIENTS)]
    work += [manage(NAMES[number::MANAGERS], number) for number in range(MANAGERS)]
    await asyncio.gather(*work, watch())
    return ledger, memory


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [60, pytest.param(1_800, marks=pytest.mark.soak)])
def test_each_accepted_request_is_answered_by_one_version(seconds: int, tmp_path: Path) -> None:
    Bank.create(tmp_path / "bank").close()
    with started(*serve(tmp_path / "bank", "--memory", "200k")) as server:
        ledger, memory = asyncio.run(scene(server.url, server.process, seconds))
    assert not ledger.faults, ledger.faults[:5]
    assert set(ledger.seen) <= {200, 404} and ledger.seen[200] > 10 * seconds
    assert sum(ledger.sent.values()) > seconds and sum(ledger.removals.values()) > seconds / 10
    assert max(memory[-3:]) < GROWTH * memory[len(memory) // 4], memory
    with Bank(tmp_path / "bank") as bank:
        assert not bank.verify().damaged
