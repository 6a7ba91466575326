"""A writer that is killed loses nothing that it acknowledged and leaves nothing half-written; readers go on
while others write.
"""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from softcue.bank import Bank
from softcue.errors import UnknownAdapterError
from tests.adapter.adapter_cases import make
from tests.bank.crash import (
    NAMES,
    State,
    apply,
    calls_of_bank,
    check,
    in_child,
    kill_during_writes,
    points,
    sample,
)


@pytest.fixture(autouse=True)
def _small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softcue.bank.writing.SLAB_LIMIT", 20_000)
    monkeypatch.setattr("softcue.bank.upkeep.PIECE", 12_000)


def kill_often(path: Path, times: int, seed: int) -> None:
    Bank.create(path).close()
    state, acknowledged = State(), 0
    for number in range(times):
        state, done = kill_during_writes(path, state, 1000 * seed + number)
        acknowledged += done
    assert acknowledged > times / 2, "it was killed during writes, not before them"
    with Bank(path) as bank:  # numbers of what was removed are not given again
        for name in NAMES:
            assert bank.add(name, sample(0)).version > state.last.get(name, 0)


def test_every_acknowledged_write_outlives_ten_kills(tmp_path: Path) -> None:
    kill_often(tmp_path / "bank", 10, seed=0)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 11))
def test_every_acknowledged_write_outlives_two_hundred_kills(seed: int, tmp_path: Path) -> None:
    kill_often(tmp_path / "bank", 20, seed)


def wasteful(path: Path) -> State:
    """A bank with slabs that are partly dead."""
    state, bank = State(), Bank.create(path)
    chance = random.Random(3)
    ops: list[list[object]] = [["add", [(chance.choice(NAMES), at % 4) for at in range(20)]]]
    ops += [["remove", name, version] for version in (1, 2) for name in NAMES]
    ops += [["alias", "spam", 3]]
    for op in ops:
        apply(bank, op)
        state = state.after(op)
    bank.close()
    return state


def kill_at(work: Callable[[Bank], object], op: list[object], place: Path, most: int | None) -> int:
    """Kill a writer at each of its calls, or at some, each time on a bank of its own."""
    state = wasteful(place / "sound")

    def child(stop: int | None, path: Path) -> tuple[int, bytes]:
        def run(pipe: int) -> None:
            bank = Bank(path)
            os.write(pipe, b"%d\n" % calls_of_bank(lambda: work(bank), stop))

        return in_child(run, None)

    shutil.copytree(place / "sound", place / "whole")
    code, told = child(None, place / "whole")
    assert code == 0
    check(place / "whole", state.after(op), None)
    tried = 0
    for stop in points(int(told), most):
        path = place / f"killed-{stop}"
        shutil.copytree(place / "sound", path)
        code, _ = child(stop, path)
        assert code == -signal.SIGKILL
        then = check(path, state, op)
        with Bank(path) as bank:
            bank.compact()
            assert bank.slabs.there() and bank.stats().bytes_dead < 20_000
            bank.add("spam", sample(1))
        check(path, then.after(["add", [("spam", 1)]]), None)
        shutil.rmtree(path)
        tried += 1
    return tried


MANY = [("toast", 1), ("ham", 0)] * 4


def test_a_compaction_killed_at_any_point_loses_nothing(tmp_path: Path) -> None:
    assert kill_at(Bank.compact, ["compact"], tmp_path, 12) >= 12


def test_an_addition_killed_at_any_point_is_whole_or_absent(tmp_path: Path) -> None:
    def add(bank: Bank) -> None:
        apply(bank, ["add", MANY])

    assert kill_at(add, ["add", MANY], tmp_path, 12) >= 12


@pytest.mark.soak
def test_a_compaction_killed_at_each_point_loses_nothing(tmp_path: Path) -> None:
    assert kill_at(Bank.compact, ["compact"], tmp_path, 300) >= 100


def test_readers_get_the_right_adapter_while_others_write_remove_and_compact(tmp_path: Path) -> None:
    path = tmp_path / "bank"
    bank = Bank.create(path)
    for name in NAMES:
        bank.add(name, make("lora", seed=1))

    def write(pipe: int) -> None:
        chance, own = random.Random(5), Bank(path)
        os.write(pipe, b"begun\n")
        until = time.monotonic() + 4
        while time.monotonic() < until:
            name = chance.choice(NAMES)
            newest = own.find(name).version
            own.add(name, make("lora", seed=newest + 1))
            own.remove(f"{name}@{newest}")
            if chance.random() < 0.2:
                own.compact()

    def read(pipe: int) -> None:
        chance, own = random.Random(7), Bank(path)
        until = time.monotonic() + 3.5
        loaded = 0
        while time.monotonic() < until:
            entry = own.find(chance.choice(NAMES))  # each name is there at all times
            try:
                adapter = own.load(entry)
            except UnknownAdapterError:
                continue  # removed meanwhile
            assert adapter.seed == entry.version
            loaded += 1
        os.write(pipe, b"%d\n" % loaded)

    def both(pipe: int) -> None:
        children = [os.fork()]
        if children[0] == 0:
            write(pipe)
            os._exit(0)
        children.append(os.fork())
        if children[1] == 0:
            read(pipe)
            os._exit(0)
        read(pipe)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]

    code, told = in_child(both, None)
    assert code == 0
    counts = [int(word) for word in told.split() if word != b"begun"]
    assert len(counts) == 2 and min(counts) > 10
    assert bank.verify().damaged == ()
