"""Each method's page says what the code does: its equation, every option with its default, and
a parameter formula that is true.
"""

import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from scripts import methods_table
from softcue.protocol import Cue, Dims
from tests.cues.cue_cases import EVERY_SIZE, METHODS, own

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "methods"


def page(method: str) -> str:
    return (PAGES / f"{method}.md").read_text(encoding="utf-8")


def formula(method: str) -> str:
    (found,) = re.findall(r"^## Parameters\n\n```formula\n(.+)\n```$", page(method), flags=re.MULTILINE)
    return found


def evaluated(method: str, dims: Dims, settled: Any) -> int:
    """The page's formula, with the names of the options and of the encoder's sizes."""
    names = {**vars(dims), "max": max, "sum": sum, **vars(settled)}
    return eval(formula(method), {"__builtins__": {}, **names})


@pytest.mark.parametrize("method", [*METHODS, "full"])
def test_every_method_has_a_page_with_an_equation(method: str) -> None:
    assert re.search(r"^## Equation\n.*?^```text\n.+?^```$", page(method), flags=re.MULTILINE | re.DOTALL)
    assert f"({method}.md)" in page("README")


@pytest.mark.parametrize("method", METHODS)
def test_every_option_stands_in_the_table_with_its_default(method: str) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \| ", page(method), flags=re.MULTILINE))
    assert list(rows) == [f.name for f in fields(Cue.registry[method].Config)]
    for f in fields(Cue.registry[method].Config):
        assert says(rows[f.name].strip("`"), f.default), f.name


def says(written: str, default: Any) -> bool:
    """Whether a table's entry is that default; in words where it is found in the task."""
    if default in (None, ()):
        return bool(re.match("[a-z0-9]", written)) and written not in ("None", "()")
    if isinstance(default, bool):
        return written == str(default).lower()
    if isinstance(default, float):
        return float(written) == default
    return written == (", ".join(default) if isinstance(default, tuple) else str(default))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", EVERY_SIZE)
def test_every_formula_on_a_page_is_the_number_of_parameters(size: str, method: str) -> None:
    dims = EVERY_SIZE[size]
    for one in own(method).counted:
        settled = one.settled(method, dims)
        assert evaluated(method, dims, settled) == Cue.registry[method].count(dims, settled), one
        if size in one.numbers:
            assert evaluated(method, dims, settled) == one.numbers[size], one


@pytest.mark.parametrize("method", ["stp", "gpc", "apt"])
def test_reconstructions_are_labelled_in_the_title(method: str) -> None:
    assert "reconstruction" in page(method).splitlines()[0]


@pytest.mark.parametrize("method", METHODS)
def test_a_title_and_a_grade_agree_on_what_is_a_reconstruction(method: str) -> None:
    _, grade = methods_table.facts(method, ROOT)
    assert ("reconstruction" in page(method).splitlines()[0]) == ("reconstruction" in grade)


@pytest.mark.parametrize("name", methods_table.PLACES)
def test_the_tables_of_methods_are_those_that_the_script_makes(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    made = methods_table.with_table(text, methods_table.PLACES[name], ROOT)
    assert text == made, "run python -m scripts.methods_table"


def test_the_script_keeps_the_order_of_a_table_and_puts_what_is_new_last(tmp_path: Path) -> None:
    shutil.copytree(PAGES, tmp_path / "docs" / "methods")
    shutil.copy(ROOT / "README.md", tmp_path)
    readme, pages = tmp_path / "README.md", tmp_path / "docs" / "methods"
    before = readme.read_text(encoding="utf-8")
    lines = before.splitlines(keepends=True)
    (lora,) = (line for line in lines if line.startswith("| [`lora`]"))
    readme.write_text(before.replace(lora, "") + "the end\n", encoding="utf-8")
    (pages / "spt.md").write_text("# SPT\n\n- learnt: a song\n- grade: none\n\nSung.\n", encoding="utf-8")
    methods_table.main(tmp_path)
    order = methods_table.ROW.findall(before)
    after = readme.read_text(encoding="utf-8")
    assert methods_table.ROW.findall(after) == [*(name for name in order if name != "lora"), "lora"]
    assert "| [`spt`](docs/methods/spt.md) | a song | none |\n" in after
    assert after.endswith("the end\n")
    (pages / "spt.md").write_text("# SPT\n\nSung.\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"spt\.md does not begin with a title and the lines '- learnt: "):
        methods_table.main(tmp_path)
