"""Atomic writes under injected faults, kills and full disks; repair; strict reading."""

import json
import os
import random
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softcue.errors import AdapterError, RequestError
from softcue.files import (
    check_folder,
    parse_json,
    read_bytes,
    read_json,
    reading,
    recover,
    write_file,
    write_folder,
)

ROOT = Path(__file__).resolve().parents[1]
MARKER = "adapter_config.json"
CALLS = ("replace", "fsync", "open", "mkdir")


def filler(text: str) -> Callable[[Path], None]:
    """Writes an "adapter" whose two files must always agree."""

    def fill(into: Path) -> None:
        (into / MARKER).write_text(text)
        (into / "deep").mkdir()
        write_file(into / "deep" / "twin", text.encode())

    return fill


def guard(folder: Path) -> None:
    """Refuses a folder that holds what no filler wrote."""
    if set(names(folder)) - {MARKER, "deep"}:
        raise RequestError(f"{folder} holds something else")


def content(folder: Path) -> str:
    """What the two files say, which must be the same."""
    text = (folder / MARKER).read_text()
    assert (folder / "deep" / "twin").read_text() == text
    return text


def names(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir())


class Faults:
    """Makes call number `first` to the patched functions of os fail, and all after it where `lasting`."""

    def __init__(self, patch: pytest.MonkeyPatch, first: int, lasting: bool) -> None:
        self.calls, self.first, self.lasting = 0, first, lasting
        for name in CALLS:
            patch.setattr(os, name, self.wrap(getattr(os, name)))

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.first or (self.lasting and self.calls > self.first):
                raise OSError(28, "No space left on device")
            return function(*args, **options)

        return call


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("existing", [False, True])
def test_a_folder_is_old_or_new_whichever_call_fails(tmp_path, existing, lasting):
    first, reached = 0, True
    while reached:
        first += 1
        folder = tmp_path / str(first) / "rte"
        folder.parent.mkdir()
        if existing:
            write_folder(folder, filler("old"), guard)
        refusal = ""
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, first, lasting)
            try:
                write_folder(folder, filler("new"), guard)
            except RequestError as error:
                refusal = str(error)
        reached = faults.calls >= first
        if existing and refusal and not lasting:
            assert content(folder) == "old", f"call {first}: not undone at once"
        recover(folder)
        if refusal:
            assert re.fullmatch(
                "cannot write .*: No space left on device; nothing half-written is left", refusal
            )
            left = {content(folder)} if folder.exists() else set()
            # not even undone
            assert left == ({"old"} if existing else set()) or (lasting and left == {"new"}), f"call {first}"
        else:
            assert content(folder) == "new"
        write_folder(folder, filler("next"), guard)
        assert content(folder) == "next"
        assert names(folder.parent) == ["rte"]
    assert first > 8


@pytest.mark.parametrize("lasting", [False, True])
def test_a_file_is_old_or_new_whichever_call_fails(tmp_path, lasting):
    path, first, reached = tmp_path / "scores.json", 0, True
    while reached:
        first += 1
        write_file(path, b"old")
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, first, lasting)
            try:
                write_file(path, b"new")
            except RequestError:
                assert path.read_bytes() in (b"old", b"new")
            else:
                assert path.read_bytes() == b"new"
        reached = faults.calls >= first
    assert first > 4
    assert names(tmp_path) == ["scores.json"]


def test_a_write_beyond_the_size_limit_leaves_the_old_folder(tmp_path):
    folder = write_folder(tmp_path / "rte", filler("old"), guard)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(RequestError, match="File too large; nothing half-written is left"):
            write_folder(folder, filler("x" * 100_000), guard)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content(folder) == "old"
    assert names(tmp_path) == ["rte"]


def test_an_error_of_fill_itself_passes_and_leaves_the_old_folder(tmp_path):
    folder = write_folder(tmp_path / "rte", filler("old"), guard)

    def fill(into: Path) -> None:
        (into / MARKER).write_text("half")
        raise AdapterError("refused")

    with pytest.raises(AdapterError, match="refused"):
        write_folder(folder, fill, guard)
    assert content(folder) == "old"
    assert names(tmp_path) == ["rte"]


@pytest.mark.parametrize("crash", ["while filling", "between renames", "before cleaning", "first write"])
def test_recover_repairs_every_state_that_a_crash_can_leave(tmp_path, crash):
    folder, aside, new = tmp_path / "rte", tmp_path / ".rte.softcue-aside", tmp_path / ".rte.softcue-writing"
    for place in {
        "while filling": [folder, new],
        "between renames": [aside, new],
        "before cleaning": [folder, aside],
        "first write": [new],
    }[crash]:
        place.mkdir()
        filler(place.name)(place)
    before = (folder if folder.exists() else aside).name
    recover(folder)
    assert names(tmp_path) == ([] if crash == "first write" else ["rte"])
    if crash != "first write":
        assert content(folder) == before


def test_recover_says_what_to_do_where_it_cannot_restore(tmp_path, monkeypatch):
    aside = tmp_path / ".rte.softcue-aside"
    aside.mkdir()
    filler("old")(aside)
    Faults(monkeypatch, 2, True)  # the first call takes the lock
    with pytest.raises(RequestError, match=r"cannot restore .*rte from .*aside: No space.*by hand"):
        recover(tmp_path / "rte")


def test_folders_that_are_not_ours_are_refused_and_untouched(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    (tmp_path / "note").write_text("a file")
    with pytest.raises(RequestError, match="holds something else"):
        write_folder(tmp_path / "thesis", filler("new"), guard)
    with pytest.raises(RequestError, match="is a file"):
        write_folder(tmp_path / "note", filler("new"), guard)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"
    assert names(tmp_path) == ["note", "thesis"]
    (tmp_path / "empty").mkdir()
    assert content(write_folder(tmp_path / "empty", filler("new"), guard)) == "new"


def test_a_link_keeps_pointing_to_the_folder_that_was_replaced(tmp_path):
    write_folder(tmp_path / "real", filler("old"), guard)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_folder(tmp_path / "link", filler("new"), guard)
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real") == "new"


def test_paths_that_cannot_be_written_are_one_clear_line(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(RequestError, match="a folder or a device"):
        write_file(pipe, b"x")
    with pytest.raises(RequestError, match="a folder or a device"):
        write_file("/dev/null", b"x")
    with pytest.raises(RequestError, match="No such file or directory"):
        write_file(tmp_path / "none" / "x", b"x")
    with pytest.raises(RequestError, match="NUL"):
        write_folder("a\0b", filler("x"), guard)
    with pytest.raises(RequestError, match="File name too long"):
        write_folder(tmp_path / ("x" * 300), filler("x"), guard)


def test_what_writing_a_folder_would_refuse_is_refused_before_and_nothing_is_made(tmp_path, monkeypatch):
    (tmp_path / "note").write_text("a file")
    (tmp_path / "rte").mkdir()
    (tmp_path / "rte" / "thesis").touch()
    for place, said in (
        (tmp_path / "note", "is a file; expected a folder"),
        (tmp_path / "note" / "below" / "rte", "note is a file; expected a folder"),
        (tmp_path / "rte", "holds something else"),
        (tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / ("x" * 245), "File name too long"),  # with what is put around it while it is written
        (tmp_path / ("x" * 300) / "rte", "File name too long"),
        ("a\0b", "NUL"),
    ):
        with pytest.raises(RequestError, match=said):
            check_folder(place, guard)
    assert check_folder(tmp_path / "new" / "deep", guard) == tmp_path / "new" / "deep"
    # as a user who is not root finds a folder of another
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path)
    with pytest.raises(RequestError, match=f"{tmp_path} cannot be written to"):
        check_folder(tmp_path / "new", guard)
    monkeypatch.setattr(os.path, "ismount", lambda place: place == tmp_path)
    with pytest.raises(RequestError, match="mount point, which cannot be replaced"):
        check_folder(tmp_path, guard)
    assert names(tmp_path) == ["note", "rte"]


def test_a_reader_never_sees_half_a_swap(tmp_path):
    folder = write_folder(tmp_path / "rte", filler("0"), guard)
    stop = threading.Event()

    def write() -> None:
        for i in range(1, 1000):
            if stop.is_set():
                return
            write_folder(folder, filler(str(i)), guard)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(200):
            with reading(folder):
                content(folder)
    finally:
        stop.set()
        writer.join()


CHILD = """
import sys
from pathlib import Path
from softcue.files import write_file, write_folder
def fill(into):
    write_file(into / "adapter_config.json", text.encode())
    (into / "deep").mkdir()
    (into / "deep" / "twin").write_text(text)
for i in range(int(sys.argv[2]), 10**9):
    text = f"{i} " * 20_000
    write_folder(sys.argv[1], fill, lambda folder: None)
    print(i, flush=True)
"""


def kill_writers(parent: Path, rounds: int) -> None:
    """A child that writes without end is killed at a random moment; what it acknowledged must
    be there, whole.
    """
    folder, acknowledged, chance = parent / "rte", 0, random.Random(4)
    for _ in range(rounds):
        command = [sys.executable, "-c", CHILD, str(folder), str(acknowledged + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline()]
            time.sleep(chance.random() * 0.03)
            child.kill()
            lines += child.stdout.readlines()
        acknowledged = int([line for line in lines if line.endswith("\n")][-1])
        recover(folder)
        assert names(parent) == ["rte"]
        found = int(content(folder).split()[0])
        assert found in (acknowledged, acknowledged + 1)
        acknowledged = found


def test_what_was_acknowledged_survives_kill_9(tmp_path):
    kill_writers(tmp_path, 10)


@pytest.mark.soak
def test_what_was_acknowledged_survives_many_kills(tmp_path):
    kill_writers(tmp_path, 500)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a": 1, "a": 2}', "'a' twice"),
        (b"[NaN]", "number NaN"),
        (b"[-Infinity]", "number -Infinity"),
        (b"[1e999]", "number 1e999"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" + b"9" * 10_000 + b"]", "digits"),
        (b'"\\ud800"', "not UTF-8"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"{'a': 1}", "not JSON"),
    ],
)
def test_json_that_is_not_strict_is_refused_with_the_reason(tmp_path, data, reason):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(AdapterError, match=rf"x\.json: .*{reason}"):
        read_json(tmp_path / "x.json", AdapterError)


def test_strict_json_is_read_as_json_reads_it():
    value = {"a": [1, -2.5, None, True, "ä\u2028\U0001f600"], "b": {"c": {}}}
    assert parse_json(json.dumps(value).encode()) == value


def test_reading_refuses_pipes_devices_folders_and_large_files_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * 11)
    for path, reason in (
        (tmp_path / "pipe", "not a file"),
        (Path("/dev/zero"), "not a file"),
        (tmp_path, "not a file"),
    ):
        with pytest.raises(AdapterError, match=reason):
            read_bytes(path, AdapterError)
    with pytest.raises(AdapterError, match="holds 11 bytes; expected at most 10"):
        read_bytes(tmp_path / "large", AdapterError, 10)
    with pytest.raises(AdapterError, match="No such file"):
        read_bytes(tmp_path / "none", AdapterError)
    assert read_bytes(tmp_path / "large", AdapterError, 11) == b"x" * 11


def test_a_key_written_twice_among_a_hundred_thousand_is_found_at_once():
    header = json.dumps({f"key {i}": 0 for i in range(100_000)})
    began = time.perf_counter()
    with pytest.raises(ValueError, match="'key 99999' twice"):
        parse_json((header[:-1] + ', "key 99999": 2}').encode())
    assert time.perf_counter() - began < 5
