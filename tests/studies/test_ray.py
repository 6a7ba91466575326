"""On Ray a sweep gives the table that it gives here, also where a worker is killed in the middle."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from softcue.errors import RequestError
from softcue.studies.ray import Opening, work
from softcue.studies.sweep import sweep
from softcue.studies.trials import Result, SearchObserver, Terms
from tests.tiny_base import tiny_base, tiny_data

DATA = tiny_data("classify")
WORKER = b"ray::work"  # what Ray calls a process that runs our task


@pytest.fixture
def one_thread() -> Iterator[None]:
    """So that the groups have room beside each other on any machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def quick(out: Path, **given: Any) -> dict[str, Any]:
    grid = {"rate": [1e-3, 1e-2, 1e-1], "length": [2, 4, 6]}
    result = sweep(
        [DATA],
        ["apt"],
        out,
        grid=grid,
        settings={"epochs": 30, "batch": 16},
        backbone=tiny_base(),
        limit=32,
        **given,
    ).to_json()
    return {name: value for name, value in result.items() if "seconds" not in name}


def workers() -> list[int]:
    """Processes of this session's cluster that run a group now."""
    found = []
    for place in Path("/proc").iterdir():
        try:
            if (
                place.name.isdigit()
                and (place / "cmdline").read_bytes().startswith(WORKER)
                and mine(int(place.name))
            ):
                found.append(int(place.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


def mine(process: int) -> bool:
    """Whether this process is an ancestor."""
    while process > 1:
        if process == os.getpid():
            return True
        process = int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return False


class Killer(SearchObserver):
    """Kills a worker in the middle of its group, once."""

    killed: int | None = None

    def result(self, result: Result) -> None:
        until = time.monotonic() + 10
        while self.killed is None and time.monotonic() < until:
            for process in workers()[:1]:
                os.kill(process, signal.SIGKILL)
                self.killed = process
            time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # ray and what it imports warn about their own insides
def test_a_worker_killed_in_mid_sweep_changes_nothing_in_the_table(tmp_path: Path, one_thread: None) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'softcue[ray]'")
    killer = Killer()
    there = quick(tmp_path / "there", ray="local", watch=killer)
    assert killer.killed is not None
    assert there == quick(tmp_path / "here")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_sweep_where_all_runs_diverge_is_told_on_ray_as_here(tmp_path: Path, one_thread: None) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'softcue[ray]'")
    with pytest.raises(RequestError, match="diverged at every point"):
        sweep(
            [DATA],
            ["bitfit"],
            tmp_path,
            grid={"rate": [900.0]},
            ray="local",
            backbone=tiny_base(),
            limit=32,
            settings={"decay": 1e38, "schedule": "constant", "warmup": 0.0, "epochs": 2},
        )


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_an_address_where_no_cluster_answers_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'softcue[ray]'")
    with pytest.raises(RequestError, match=r"no Ray cluster at 'auto'"):
        quick(tmp_path, ray="auto")


def test_without_ray_the_flag_says_how_to_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RequestError, match=r"pip install 'softcue\[ray\]'"):
        quick(tmp_path, ray="local")


def test_a_worker_with_another_backbone_refuses_to_train() -> None:
    base = tiny_base()
    opening = Opening(base.backbone.name, "float32", "cpu", "another", torch.get_num_threads(), ())
    with pytest.raises(RequestError, match="another backbone than the driver's"):
        work((), Terms({}), opening)
