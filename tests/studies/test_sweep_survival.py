"""A sweep that was stopped, killed or damaged goes on with what is missing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from softcue.studies.trials import Result, SearchObserver
from tests.studies.sweep_cases import DATA, quick, timeless, write_data
from tests.tiny_base import base_folder, tiny_data


class Interrupted(SearchObserver):
    """Stops a sweep after its first group."""

    def result(self, result: Result) -> None:
        raise KeyboardInterrupt


class Counted(SearchObserver):
    """Counts the steps that were trained."""

    steps = 0

    def step(self, prepared: Any, run: Any) -> None:
        self.steps += 1


def test_a_sweep_that_was_stopped_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    whole, again = Counted(), Counted()
    undisturbed = quick(tmp_path / "whole", watch=whole)
    with pytest.raises(KeyboardInterrupt):
        quick(tmp_path / "stopped", watch=Interrupted())
    assert timeless(quick(tmp_path / "stopped", watch=again)) == timeless(undisturbed)
    assert 0 < again.steps < whole.steps


def test_a_finished_sweep_trains_nothing_and_another_seed_or_data_set_does(tmp_path: Path) -> None:
    quick(tmp_path)
    for given, trains in (
        ({}, False),
        ({"data": [tiny_data("classify", seed=5)]}, True),
        ({"limit": 16}, True),
    ):
        counted = Counted()
        quick(tmp_path, watch=counted, **given)
        assert bool(counted.steps) == trains, given


def test_a_damaged_group_is_said_and_made_again(tmp_path: Path) -> None:
    told: list[str] = []
    first = quick(tmp_path)
    damaged = sorted((tmp_path / "groups").glob("*.json"))
    damaged[0].write_text("{")
    damaged[1].write_text(damaged[1].read_text().replace("score", "store"))
    assert timeless(quick(tmp_path, say=told.append)) == timeless(first)
    assert [
        str(file) in line and "made again" in line for file, line in zip(damaged, sorted(told), strict=True)
    ] == [True, True]


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_at_most_the_group_in_work(tmp_path: Path) -> None:
    data = write_data(tmp_path / "rows", DATA)
    command = [
        sys.executable,
        "-m",
        "softcue",
        "sweep",
        str(data),
        "--method",
        "apt",
        "--backbone",
        str(base_folder()),
        "--precision",
        "float32",
    ]
    command += [
        "--grid",
        "lr=1e-3,3e-3,1e-2",
        "--grid",
        "length=2,4,6",
        "--set",
        "epochs=8",
        "--set",
        "batch=8",
        "--json",
    ]
    undisturbed = subprocess.run(
        [*command, "--out", str(tmp_path / "whole")], capture_output=True, text=True, check=True
    )
    killed = 0
    for moment in (0.1, 0.4):
        process = subprocess.Popen(
            [*command, "--out", str(tmp_path / "killed")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        groups = tmp_path / "killed" / "groups"
        while process.poll() is None and not groups.is_dir():
            time.sleep(0.02)
        time.sleep(moment)
        killed += process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        for file in groups.glob("*.json"):
            json.loads(file.read_text())
    assert killed
    resumed = subprocess.run(
        [*command, "--out", str(tmp_path / "killed")], capture_output=True, text=True, check=True
    )
    one, two = (timeless(json.loads(done.stdout)) for done in (undisturbed, resumed))
    assert {**one, "out": ""} == {**two, "out": ""}
