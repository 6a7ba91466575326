"""A benchmark's file grows row by row, survives a kill, and never mixes figures of different conditions."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import common
from benchmarks.common import Options, Results, machine, read_options

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = Options(device="cpu", quick=True, threads=1, clock="wall", repeat=1)
HERE: dict[str, Any] = {"processor": "Some CPU", "threads": 1, "commit": "abc1234", "changed": False}
CASES = [{"task": f"task {number}"} for number in range(4)]
FAKE = """
import os, pathlib, signal, sys
from benchmarks import common
common.RESULTS = pathlib.Path(sys.argv[1])
common.machine = lambda options: {"commit": "abc1234"}
results = common.Results("fake", common.read_options("", ["--quick"]))
def measure(task):
    print("measures", task, flush=True)
    return [{"task": task, "x": 2.5}]
def killed(*given):
    os.kill(os.getpid(), signal.SIGKILL)
for task in range(4):
    if task == 2 and sys.argv[2] == "measuring":
        measure = killed
    if task == 2 and sys.argv[2] == "writing":
        os.fsync = killed  # its bytes are written then, and not yet in place
    results.add({"task": task}, lambda: measure(task))
results.finish()
"""


PAIRED = """
import pathlib, sys
from functools import partial
from benchmarks.common import Options, paired
made = "(open(%r, 'w').write(str(__import__('os').getpid())), [lambda: __import__('time').sleep(600)])[1]"
paired({("asleep",): partial(eval, made % sys.argv[1])}, Options("cpu", True, 1, "wall", 1))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of results, on a machine that stays as it is."""
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(common, "machine", lambda options: {**HERE, "threads": options.threads})
    return tmp_path / OPTIONS.kind


def measure_all(options: Options, measured: list[str]) -> None:
    """A benchmark of four cases with two rows each, which notes what it measures."""
    results = Results("fake", options)
    for case in CASES:

        def measure(task: str = case["task"]) -> list[dict[str, Any]]:
            measured.append(task)
            return [{"task": task, "side": side, "x": 1.5} for side in ("ours", "theirs")]

        assert len(results.add(case, measure)) == 2
    results.finish()


def fake(place: Path, killed_while: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FAKE, str(place), killed_while],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )


@pytest.mark.parametrize("killed_while", ["measuring", "writing"])
def test_a_benchmark_killed_after_its_second_row_keeps_two_and_then_measures_the_rest(
    tmp_path: Path, killed_while: str
) -> None:
    assert fake(tmp_path, killed_while).returncode == -signal.SIGKILL
    (file,) = tmp_path.rglob("*.json")
    held = json.loads(file.read_text(encoding="utf-8"))
    assert [row["task"] for row in held["rows"]] == [0, 1]
    assert held["unfinished"] is True

    again = fake(tmp_path, "nothing")
    assert again.returncode == 0, again.stderr
    assert [line for line in again.stdout.splitlines() if "measures" in line] == ["measures 2", "measures 3"]
    assert json.loads(file.read_text(encoding="utf-8")) == {
        "benchmark": "fake",
        "machine": {"commit": "abc1234"},
        "rows": [{"task": task, "x": 2.5} for task in range(4)],
    }
    assert list(file.parent.iterdir()) == [file], "nothing half-written is left"


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs /proc to see other processes")
def test_a_benchmark_that_is_killed_takes_the_processes_of_its_sides_with_it(tmp_path: Path) -> None:
    noted = tmp_path / "process"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", PAIRED, str(noted)], env=environment) as benchmark:
        until = time.monotonic() + 120
        while not (noted.is_file() and noted.read_text(encoding="utf-8")) and time.monotonic() < until:
            time.sleep(0.1)
        side = int(noted.read_text(encoding="utf-8"))
        assert alive(side)
        benchmark.kill()
    until = time.monotonic() + 20
    while alive(side) and time.monotonic() < until:
        time.sleep(0.1)
    left = alive(side)
    if left:
        os.kill(side, signal.SIGKILL)
    assert not left


def test_the_file_is_whole_with_one_case_more_after_each(folder: Path) -> None:
    results = Results("fake", OPTIONS)
    for number, case in enumerate(CASES):
        results.add(case, lambda case=case: [case])  # type: ignore[misc]
        held = json.loads((folder / "fake-quick.json").read_text(encoding="utf-8"))
        assert held["rows"] == CASES[: number + 1]


def test_a_finished_benchmark_measures_nothing_again_and_says_what_to_delete(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[str] = []
    measure_all(OPTIONS, measured)
    file = folder / "fake-quick.json"
    before = file.read_bytes()
    measure_all(OPTIONS, measured)
    assert measured == [case["task"] for case in CASES]
    assert file.read_bytes() == before
    assert f"8 rows are there; delete {file} to measure them again" in capsys.readouterr().out


def test_other_conditions_are_refused_in_one_line_and_replaced_only_when_told(folder: Path) -> None:
    measure_all(OPTIONS, [])
    before = (folder / "fake-quick.json").read_bytes()
    other = replace(OPTIONS, threads=2)
    with pytest.raises(SystemExit) as refused:
        measure_all(other, [])
    assert "other conditions: threads: 1 there, 2 here; give --anew to replace it" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert (folder / "fake-quick.json").read_bytes() == before

    measured: list[str] = []
    measure_all(replace(other, anew=True), measured)
    assert len(measured) == len(CASES)
    assert json.loads((folder / "fake-quick.json").read_text())["machine"]["threads"] == 2


def test_the_same_command_with_anew_goes_on_too(folder: Path) -> None:
    measure_all(OPTIONS, [])
    other = replace(OPTIONS, threads=2, anew=True)
    Results("fake", other).add(CASES[0], lambda: [CASES[0] | {"side": "ours"}, CASES[0] | {"side": "theirs"}])
    measured: list[str] = []
    measure_all(other, measured)
    assert measured == [case["task"] for case in CASES[1:]]


@pytest.mark.parametrize("text", ['{"rows": [', "[1]"])
def test_a_file_that_is_not_ours_is_named_and_left_alone(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "fake-quick.json").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match=r"fake-quick\.json.*delete the file to measure anew"):
        Results("fake", OPTIONS)
    assert (folder / "fake-quick.json").read_text(encoding="utf-8") == text


def test_results_that_a_benchmark_has_written_are_no_change_of_what_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *words], cwd=tmp_path, check=True)

    file, code = tmp_path / "benchmarks" / "results" / "float32" / "fake.json", tmp_path / "code.py"
    file.parent.mkdir(parents=True)
    file.write_text("{}", encoding="utf-8")
    code.write_text("one = 1", encoding="utf-8")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    monkeypatch.setattr(common, "RESULTS", tmp_path / "benchmarks" / "results")
    clean = machine(OPTIONS)
    file.write_text('{"rows": []}', encoding="utf-8")
    assert machine(OPTIONS) == clean
    assert (clean["changed"], "changes" in clean) == (False, False)

    code.write_text("one = 2", encoding="utf-8")
    changed = machine(OPTIONS)
    code.write_text("one = 3", encoding="utf-8")
    assert changed["changed"] and machine(OPTIONS)["changed"]
    assert changed["changes"] != machine(OPTIONS)["changes"], "other changes of one commit are told apart"


def test_anew_is_an_option_of_every_benchmark() -> None:
    assert read_options("", ["--anew"]).anew
    assert not read_options("", []).anew


def test_every_benchmark_keeps_its_rows_in_the_one_way() -> None:
    tree = ast.parse((ROOT / "benchmarks" / "__main__.py").read_text(encoding="utf-8"))
    (names,) = [node.names for node in tree.body if isinstance(node, ast.ImportFrom)]
    for name in names:
        text = (ROOT / "benchmarks" / f"{name.name}.py").read_text(encoding="utf-8")
        assert f'Results("{name.name}", options)' in text, name.name
        assert "results.finish()" in text, name.name
        if name.name not in ("packed_sweep", "setfit"):  # which write data as JSON
            assert "json.dump" not in text, name.name
