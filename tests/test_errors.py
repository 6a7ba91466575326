"""The error tree: a caller can sort what was refused into data, settings, files and the rest."""

from collections.abc import Callable
from pathlib import Path

import pytest

from softcue import api
from softcue.errors import DataError, RequestError, SettingsError, SoftcueError, WriteError, short
from softcue.files import write_file
from softcue.studies.space import read_grid
from tests.tiny_base import tiny_base, tiny_data

ASKED: dict[str, tuple[Callable[[Path], object], type[SoftcueError]]] = {
    "data that are nowhere": (lambda folder: api.open_data(folder / "none"), DataError),
    "data without labels": (lambda folder: api.open_data(rows(folder, '{"text": "a"}')), DataError),
    "an unknown setting": (lambda folder: trained(size=3), SettingsError),
    "a setting out of range": (lambda folder: trained(dropout=2.0), SettingsError),
    "a setting of training out of range": (lambda folder: trained(epochs=0), SettingsError),
    "a grid that is none": (lambda folder: read_grid(["rate"]), SettingsError),
    "a file under a file": (lambda folder: write_file(rows(folder, "") / "x", b""), WriteError),
    "a file that is a folder": (lambda folder: write_file(folder, b""), WriteError),
}


def rows(folder: Path, text: str) -> Path:
    (folder / "train.jsonl").write_text(text + "\n")
    return folder / "train.jsonl"


def trained(**settings: object) -> object:
    return api.train(tiny_data(), backbone=tiny_base(), settings=settings)


@pytest.mark.parametrize("asked", sorted(ASKED))
def test_what_is_refused_is_sorted(asked: str, tmp_path: Path) -> None:
    ask, kind = ASKED[asked]
    with pytest.raises(RequestError) as refused:
        ask(tmp_path)
    assert type(refused.value) is kind


def test_a_long_number_has_a_short_name() -> None:
    assert short(10**5_000) == short([10**5_000]) == "a whole number of thousands of digits"


def test_a_value_that_is_shown_on_several_lines_is_named_on_one() -> None:
    class Tall:
        def __repr__(self) -> str:
            return "a\nb"

    assert short(Tall()) == "a\\nb"
