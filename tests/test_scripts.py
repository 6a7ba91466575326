"""The scripts that write pages and results: each can still be imported, wherever modules have moved."""

import importlib
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parents[1] / "scripts").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_imports_what_there_is(script: Path) -> None:
    module = importlib.import_module(f"scripts.{script.stem}")
    assert module.__doc__
