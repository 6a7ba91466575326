"""Writers that are killed: random writes to a bank that tell what they begin and what is done, and what a
bank must hold after them.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from softcue.adapter import Adapter
from softcue.bank import Bank
from softcue.errors import UnknownAdapterError
from tests.adapter.adapter_cases import make, same

NAMES = ("ham", "spam", "eggs", "toast")
METHODS = ("pasta", "lora", "spt", "bitfit")
PART = f"{os.sep}softcue{os.sep}bank{os.sep}"


@cache
def sample(number: int) -> Adapter:
    """One of a few adapters."""
    return make(METHODS[number], seed=number)


@dataclass
class State:
    """What a bank holds, and the highest version that a name ever had."""

    versions: dict[tuple[str, int], int] = field(default_factory=dict)  # -> which sample
    aliases: dict[tuple[str, str], int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)

    def after(self, op: list[Any]) -> "State":
        """What it holds when an operation is done."""
        then = State(dict(self.versions), dict(self.aliases), dict(self.last))
        if op[0] == "add":
            for name, number in op[1]:
                then.last[name] = then.last.get(name, 0) + 1
                then.versions[name, then.last[name]] = number
        elif op[0] == "alias":
            then.aliases[op[1], "prod"] = op[2]
        elif op[0] == "remove":
            gone = [key for key in self.versions if key[0] == op[1] and op[2] in (None, key[1])]
            for key in gone:
                del then.versions[key]
                then.aliases = {k: v for k, v in then.aliases.items() if (k[0], v) != key}
        return then

    def draw(self, chance: random.Random) -> list[Any]:
        """An operation that this state allows."""
        sort = chance.random()
        there = sorted(self.versions)
        if sort < 0.5 or not there:
            several = 1 if chance.random() < 0.5 else chance.randrange(2, 9)
            return ["add", [(chance.choice(NAMES), chance.randrange(4)) for _ in range(several)]]
        name, version = chance.choice(there)
        if sort < 0.6:
            return ["alias", name, version]
        if sort < 0.85:
            return ["remove", name, version if chance.random() < 0.7 else None]
        return ["compact"]


def apply(bank: Bank, op: list[Any]) -> None:
    """Do an operation."""
    if op[0] == "add":
        bank.add_all((name, sample(number)) for name, number in op[1])
    elif op[0] == "alias":
        bank.alias(op[1], "prod", op[2])
    elif op[0] == "remove":
        bank.remove(op[1] if op[2] is None else f"{op[1]}@{op[2]}")
    else:
        bank.compact()


def in_child(run: Callable[[int], None], seconds: float | None) -> tuple[int, bytes]:
    """Run in a forked process that may write to a pipe, and kill it after some seconds, counted from
    its first word; return how it ended and what it wrote.
    """
    for number in range(len(METHODS)):
        sample(number)  # made once: they are random
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            run(write)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.readline()
        if seconds is not None:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
        told += pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told


def write_at_random(path: Path, state: State, seed: int) -> Callable[[int], None]:
    """A writer that tells each operation before it begins, and when it is done."""

    def run(pipe: int) -> None:
        chance, now, bank = random.Random(seed), state, Bank(path)
        while True:
            op = now.draw(chance)
            os.write(pipe, json.dumps(["begin", op]).encode() + b"\n")
            apply(bank, op)
            os.write(pipe, json.dumps(["done", op]).encode() + b"\n")
            now = now.after(op)

    return run


def kill_during_writes(path: Path, state: State, seed: int) -> tuple[State, int]:
    """Kill a writer, and return what the bank holds: all that was acknowledged, and of the operation that
    was not all or nothing; and how many were acknowledged.
    """
    code, told = in_child(write_at_random(path, state, seed), random.Random(seed).uniform(0, 0.6))
    assert code == -signal.SIGKILL, "the writer found a mistake of its own"
    words = [json.loads(line) for line in told.splitlines()]
    begun: list[Any] | None = None
    done = 0
    for word, op in words:
        if word == "done":
            state, begun, done = state.after(op), None, done + 1
        else:
            begun = op
    return check(path, state, begun), done


def check(path: Path, state: State, begun: list[Any] | None) -> State:
    """Compare a bank with what it must hold; return which of the two states it is in."""
    with Bank(path) as bank:
        entries = {(entry.name, entry.version): entry for name in NAMES for entry in _versions(bank, name)}
        aliases = {
            (entry.name, alias): entry.version for entry in entries.values() for alias in entry.aliases
        }
        allowed = [state, *([state.after(begun)] if begun else [])]
        fitting = [s for s in allowed if set(s.versions) == set(entries) and s.aliases == aliases]
        assert fitting, f"{sorted(entries)} {aliases} is neither of {allowed}"
        found = fitting[-1]
        for key, entry in entries.items():
            assert same(bank.load(entry), sample(found.versions[key])), entry.full_name
        checked = bank.verify()
        assert (checked.checked, checked.damaged) == (len(entries), ())
    return found


def _versions(bank: Bank, name: str) -> list[Any]:
    try:
        return bank.versions(name)
    except UnknownAdapterError:
        return []


def calls_of_bank(run: Callable[[], object], stop: int | None) -> int:
    """Run something, and kill this process at the `stop`-th call that softcue/bank makes or returns from;
    return how many there were.
    """
    count = 0

    def seen(frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal count
        if PART in frame.f_code.co_filename:
            count += 1
            if count == stop:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(seen)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


def points(total: int, most: int | None) -> Iterator[int]:
    """All numbers up to a total, or so many of them, from the first to the last."""
    step = 1 if most is None else max(1, total // most)
    yield from range(1, total + 1, step)
