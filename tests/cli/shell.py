"""What the tests of the command line share: a shell in this process, and a folder with all that
commands are given.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from softcue import cli, tasks
from softcue.kinds import KINDS
from tests.answering.test_predict import random_adapter
from tests.test_api import written
from tests.tiny_base import base_folder, tiny_base, tiny_data


class Result(NamedTuple):
    """What a command ended with."""

    code: int
    out: str
    err: str


class Shell:
    """Runs `softcue ...` in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.capture = capture

    def __call__(self, *words: str | Path) -> Result:
        self.capture.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["softcue", *map(str, words)])
            try:
                cli.main()
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 0
        return Result(code, *self.capture.readouterr())

    def refused(self, *words: str | Path) -> str:
        """What a mistake is told with: nothing on standard output, no traceback, exit code 2."""
        result = self(*words)
        assert result.code == 2, result
        assert not result.out
        assert "Traceback" not in result.err
        assert result.err.strip()
        return result.err


@pytest.fixture(scope="session", name="place")
def make_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and adapters of every kind, backbones, and files that are none of these."""
    folder = tmp_path_factory.mktemp("cli")
    base = tiny_base()
    for kind in KINDS:
        written(tiny_data(kind, train=30, dev=9, test=9), folder / "data" / kind)
        random_adapter(base, "pasta", kind, task=kind).save(folder / "adapters" / kind)
    written(tiny_data(pair=True, train=30, dev=9, test=9), folder / "data" / "pair")
    random_adapter(base, "stp", pair=True).save(folder / "adapters" / "pair")
    (folder / "backbone").symlink_to(base_folder())
    (folder / "other").symlink_to(base_folder("bert", 1))
    (folder / "foreign").mkdir()
    (folder / "foreign" / "thesis.txt").write_text("precious")
    (folder / "file").write_text("precious")
    (folder / "empty.jsonl").write_text("")
    (folder / "broken.jsonl").write_text('{"text": "fine"}\n{"text": \n[1]\n')
    (folder / "binary.jsonl").write_bytes(b"\xff\xfe\x00\x80")
    (folder / "missing.jsonl").write_text('{"text": "fine"}\n{"label": 1}\n')
    (folder / "in.jsonl").write_text(
        '{"text": "the apple"}\n\n{"text": "an owl \U0001f600", "label": "bird"}\n'
    )
    return folder


@pytest.fixture(name="shell")
def make_shell(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shell]:
    """A shell in that folder; after the test nothing of others' is lost, and nothing half-written is left."""
    monkeypatch.chdir(place)
    monkeypatch.delenv(tasks.ROOT, raising=False)
    yield Shell(capsys)
    assert (place / "foreign" / "thesis.txt").read_text() == (place / "file").read_text() == "precious"
    assert not list(place.rglob("*.softcue-*")), "nothing half-written is left"


def train(*more: str, data: str = "data/classify", out: str | Path = "new") -> tuple[str, ...]:
    """A training command that is right but for what the caller changes."""
    return (
        "train",
        data,
        "--backbone",
        "backbone",
        "--precision",
        "float32",
        "--set",
        "epochs=1",
        "--out",
        str(out),
        *more,
    )
