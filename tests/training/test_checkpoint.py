"""Checkpoints: a run that was killed, or whose checkpoints were damaged, ends bit for bit where
the undisturbed run ends.
"""

import multiprocessing
import os
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from softcue.base import open_base
from softcue.errors import RequestError, SoftcueError
from softcue.files import write as files
from softcue.training.checkpoint import Checkpoints, Saved, open_checkpoints, read
from softcue.training.job import Job
from softcue.training.jobs import train_jobs
from tests.tiny_base import base_folder, tiny_base, tiny_data
from tests.training.kill_cases import CASES, contents, jobs

# one server imports torch, and every child that is killed is forked from it
SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["tests.training.kill_cases"])


@pytest.fixture(scope="module")
def backbone() -> str:
    return str(base_folder())


@pytest.fixture(scope="module")
def undisturbed(
    backbone: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[dict[str, bytes], float]]:
    """What each case ends with when nothing happens to it, and the seconds that it takes with checkpoints."""
    ends = {}
    for name, case in CASES.items():
        folder = tmp_path_factory.mktemp(name)
        case(backbone, str(folder / "out"), None)
        began = time.monotonic()
        case(backbone, str(folder / "again"), str(folder / "checkpoints"))
        ends[name] = contents(folder / "out"), time.monotonic() - began
        assert contents(folder / "again") == ends[name][0]
    return ends


def kill_once(case: str, backbone: str, folder: Path, seconds: float) -> bool:
    """Start or resume in another process, and kill it some time after it began; True where it
    was still at work.
    """
    marker = folder / "checkpoints"
    before = marker.stat().st_mtime_ns if marker.exists() else 0
    child = SPAWN.Process(target=CASES[case], args=(backbone, str(folder / "out"), str(marker)))
    child.start()
    deadline = time.monotonic() + 60
    while (
        child.is_alive()
        and time.monotonic() < deadline
        and not (marker.exists() and marker.stat().st_mtime_ns > before)
    ):
        time.sleep(0.002)
    time.sleep(seconds)
    alive = child.is_alive()
    child.kill()
    child.join()
    child.close()
    return alive


def whole_only(folder: Path) -> None:
    """Whatever lies under a final name is whole."""
    for file in folder.glob("checkpoints/checkpoint-*"):
        read(file)
    assert len(list(folder.glob("checkpoints/checkpoint-*"))) <= 3


def kill_and_resume(
    case: str, kills: int, backbone: str, undisturbed: dict[str, tuple[dict[str, bytes], float]], place: Path
) -> None:
    """One run that is killed again and again; after each kill a copy of it is resumed to its end."""
    expected, seconds = undisturbed[case]
    chance, folder, hits = random.Random(0), place / "killed", 0
    for kill in range(kills):
        if not hits or kill % 5 == 0:  # each run is killed five times, or it would soon be at its end
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        hits += kill_once(case, backbone, folder, chance.uniform(0, seconds / 3))
        whole_only(folder)
        copy = place / f"copy-{kill}"
        shutil.copytree(folder, copy)
        shutil.rmtree(copy / "out", ignore_errors=True)
        CASES[case](backbone, str(copy / "out"), str(copy / "checkpoints"))
        assert contents(copy / "out") == expected
        assert not list((copy / "checkpoints").glob(".*writing"))
        shutil.rmtree(copy)
    assert hits >= kills // 2, "the kills came too late to mean anything"


@pytest.mark.parametrize(("case", "kills"), [("queue", 3), ("full", 2)])
def test_a_killed_run_ends_where_the_undisturbed_run_ends(
    case: str, kills: int, backbone: str, undisturbed, tmp_path: Path
) -> None:
    kill_and_resume(case, kills, backbone, undisturbed, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize(("case", "kills"), [("queue", 30), ("full", 20)])
def test_fifty_kills_change_nothing(
    case: str, kills: int, backbone: str, undisturbed, tmp_path: Path
) -> None:
    kill_and_resume(case, kills, backbone, undisturbed, tmp_path)


class Stopped(Exception):
    """Raised in the middle of training, as a kill that leaves the process alive."""


@pytest.fixture
def stopped(backbone: str, tmp_path: Path) -> Path:
    """The checkpoints of a run that was stopped in its twentieth report."""
    count = 0

    def stop(prepared: object, run: object) -> None:
        nonlocal count
        count += 1
        if count == 20:
            raise Stopped

    with pytest.raises(Stopped):
        train_jobs(
            jobs(),
            open_base(backbone, "float32"),
            stop,
            seats=2,
            checkpoints=Checkpoints(tmp_path / "kept", every=2),
        )
    assert len(list((tmp_path / "kept").glob("checkpoint-*"))) == 2
    return tmp_path / "kept"


def resumed(backbone: str, stopped: Path, out: Path, said: list[str]) -> dict[str, bytes]:
    kept = Checkpoints(stopped, every=2, resume=True, say=said.append)
    for number, adapter in enumerate(
        train_jobs(jobs(), open_base(backbone, "float32"), seats=2, checkpoints=kept)
    ):
        adapter.save(out / str(number))
    return contents(out)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "header", "text"])
def test_a_damaged_newest_checkpoint_is_told_of_and_the_one_before_it_is_used(
    damage: str, backbone: str, stopped: Path, undisturbed, tmp_path: Path
) -> None:
    newest = max(stopped.glob("checkpoint-*"))
    data = newest.read_bytes()
    middle = len(data) - 100
    newest.write_bytes(
        {
            "empty": b"",
            "cut": data[:-8],
            "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "header": b"\xff" * 8 + data[8:],
            "text": b"not a checkpoint",
        }[damage]
    )
    said: list[str] = []
    assert resumed(backbone, stopped, tmp_path / "out", said) == undisturbed["queue"][0]
    assert len(said) == 1 and f"{newest} is damaged" in said[0]


def test_where_every_checkpoint_is_damaged_the_run_is_refused(
    backbone: str, stopped: Path, tmp_path: Path
) -> None:
    for file in stopped.glob("checkpoint-*"):
        file.write_bytes(b"")
    with pytest.raises(RequestError, match=r"every checkpoint in .* is damaged; remove checkpoint-0"):
        resumed(backbone, stopped, tmp_path / "out", [])


def test_a_finished_run_can_be_resumed_and_gives_the_same(
    backbone: str, stopped: Path, undisturbed, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        assert resumed(backbone, stopped, tmp_path / name, []) == undisturbed["queue"][0]


def test_a_damaged_adapter_of_a_finished_job_is_named(backbone: str, stopped: Path, tmp_path: Path) -> None:
    resumed(backbone, stopped, tmp_path / "out", [])
    file = stopped / "finished" / "00001" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(SoftcueError, match="00001"):
        resumed(backbone, stopped, tmp_path / "again", [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda job: replace(job, seed=9), r"jobs.0.seed was 0 and is 9"),
        (
            lambda job: replace(job, training={**job.training, "rate": 0.5}),
            r"jobs.0.training.rate was 0.01 and is 0.5",
        ),
        (lambda job: replace(job, settings={"dropout": 0.2}), r"jobs.0.config.dropout was 0.1 and is 0.2"),
        (
            lambda job: replace(job, data=tiny_data("classify", train=21, dev=8, test=8)),
            r"jobs.0.data was \w{16} and is \w{16}",
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_what_differs(
    change, said: str, backbone: str, stopped: Path
) -> None:
    other = [change(jobs()[0]), *jobs()[1:]]
    before = contents(stopped)
    with pytest.raises(
        RequestError, match=rf"checkpoint of another run: {said}.*Give the same settings as then"
    ):
        train_jobs(
            other, open_base(backbone, "float32"), seats=2, checkpoints=Checkpoints(stopped, resume=True)
        )
    with pytest.raises(RequestError, match="seats was 2 and is 3"):
        train_jobs(
            jobs(), open_base(backbone, "float32"), seats=3, checkpoints=Checkpoints(stopped, resume=True)
        )
    with pytest.raises(RequestError, match="holds checkpoints of an earlier run; resume it"):
        train_jobs(jobs(), open_base(backbone, "float32"), seats=2, checkpoints=Checkpoints(stopped))
    assert contents(stopped) == before


def test_a_full_disk_stops_with_an_error_and_the_run_goes_on_from_the_last_checkpoint(
    backbone: str, stopped: Path, undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(stopped)
    with monkeypatch.context() as patch:

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(files.os, "fsync", full)
        with pytest.raises(
            RequestError, match=r"cannot write .*No space left on device; nothing half-written is left"
        ):
            resumed(backbone, stopped, tmp_path / "out", [])
    assert {name: data for name, data in contents(stopped).items() if "finished" not in name} == {
        name: data for name, data in before.items() if "finished" not in name
    }
    assert resumed(backbone, stopped, tmp_path / "out", []) == undisturbed["queue"][0]


def test_places_that_cannot_hold_checkpoints_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    job = Job(tiny_data("classify", train=4, dev=2, test=2), "bitfit", training={"epochs": 1})
    with pytest.raises(RequestError, match=r"cannot write checkpoints to .*file"):
        train_jobs([job], tiny_base(), checkpoints=Checkpoints(tmp_path / "file"))
    with pytest.raises(RequestError, match="every 0 steps"):
        Checkpoints(tmp_path, every=0)
    with pytest.raises(RequestError, match="--resume came without --checkpoint"):
        open_checkpoints(None, 5, True, print)

    def readonly(path: object, *rest: object, **more: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "mkdir", readonly)
    with pytest.raises(RequestError, match="Read-only file system; give a folder that you can write to"):
        Checkpoints(tmp_path / "new" / "folder").open({})


def test_leftovers_of_a_killed_writer_are_removed_and_other_files_are_not(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint-0000000004.safetensors.softcue-writing").write_bytes(b"half")
    (tmp_path / "mine.txt").write_text("kept")
    kept = Checkpoints(tmp_path, every=1)
    assert kept.open({}) is None
    for _ in range(4):
        assert kept.due()
        kept.write(Saved({"x": torch.zeros(2)}, {"n": [1]}))
    assert sorted(contents(tmp_path)) == [
        "checkpoint-0000000003.safetensors",
        "checkpoint-0000000004.safetensors",
        "mine.txt",
    ]


@pytest.fixture
def saved() -> Saved:
    tensors = {
        "a": torch.randn(3, 2),
        "b": torch.arange(4),
        "c": torch.zeros(0, dtype=torch.int64),
        "d": torch.tensor(0.5),
    }
    return Saved({**tensors, "e": torch.get_rng_state()}, {"best": float("-inf"), "history": [{"step": 1}]})


def test_a_checkpoint_is_a_safetensors_file_that_gives_back_what_was_written(
    tmp_path: Path, saved: Saved
) -> None:
    kept = Checkpoints(tmp_path, every=1)
    kept.open({"tuple": (1, 2)})
    kept.due()
    kept.write(Saved.join({"one": saved, "two": Saved({}, [1])}))
    (file,) = tmp_path.iterdir()
    assert set(load_file(file)) == {f"one/{name}" for name in saved.tensors}
    again = Checkpoints(tmp_path, every=1, resume=True).open({"tuple": (1, 2)})
    assert again is not None and again.part("two").state == [1]
    assert again.part("one").state == saved.state
    assert all(torch.equal(tensor, again.part("one").tensors[name]) for name, tensor in saved.tensors.items())
