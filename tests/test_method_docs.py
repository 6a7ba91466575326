"""Each method's page says what the code does: its equation, every option with its default, and
a parameter formula that is true.
"""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from softcue.protocol import Cue, Dims
from tests.cues.cue_cases import SIZES
from tests.cues.test_cue_counts import DOUBLED_PAIR, GRID, PAIR, SINGLE, config, stp

PAGES = Path(__file__).parents[1] / "docs" / "methods"
ODD = Dims(layers=5, hidden=24, heads=3, embed=14, ff=50, pooler=True, embed_norm=24)
FOUND_IN_THE_TASK = {"slots", "cls_layers", "sep_layers", "cls_budget", "sep_budget", "place"}


def page(method: str) -> str:
    return (PAGES / f"{method}.md").read_text(encoding="utf-8")


def formula(method: str) -> str:
    (found,) = re.findall(r"^## Parameters\n\n```formula\n(.+)\n```$", page(method), flags=re.MULTILINE)
    return found


def evaluated(method: str, dims: Dims, settled: Any) -> int:
    """The page's formula, with the names of the options and of the encoder's sizes."""
    names = {**vars(dims), "max": max, "sum": sum, **vars(settled)}
    return eval(formula(method), {"__builtins__": {}, **names})


@pytest.mark.parametrize("method", sorted([*Cue.registry, "full"]))
def test_every_method_has_a_page_with_an_equation(method: str) -> None:
    assert re.search(r"^## Equation\n.*?^```text\n.+?^```$", page(method), flags=re.MULTILINE | re.DOTALL)
    assert f"({method}.md)" in page("README")


@pytest.mark.parametrize("method", sorted(Cue.registry))
def test_every_option_stands_in_the_table_with_its_default(method: str) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \| ", page(method), flags=re.MULTILINE))
    assert list(rows) == [f.name for f in fields(Cue.registry[method].Config)]
    for f in fields(Cue.registry[method].Config):
        if f.name not in FOUND_IN_THE_TASK:
            assert says(rows[f.name].strip("`"), f.default), f.name


def says(written: str, default: Any) -> bool:
    """Whether a table's entry is that default."""
    if isinstance(default, bool):
        return written == str(default).lower()
    if isinstance(default, float):
        return float(written) == default
    return written == (", ".join(default) if isinstance(default, tuple) else str(default))


@pytest.mark.parametrize("size", [*SIZES, "odd"])
def test_every_formula_on_a_page_is_the_number_of_parameters(size: str) -> None:
    dims = {**SIZES, "odd": ODD}[size]
    cases = [(method, config(method, **options)) for method, options in GRID]
    cases += [
        ("stp", stp(dims, roles, doubled))
        for roles, doubled in ((SINGLE, False), (PAIR, False), (DOUBLED_PAIR, True))
    ]
    for method, settled in cases:
        assert evaluated(method, dims, settled) == Cue.registry[method].count(dims, settled), (
            method,
            settled,
        )


@pytest.mark.parametrize("method", ["stp", "gpc", "apt"])
def test_reconstructions_are_labelled_in_the_title(method: str) -> None:
    assert "reconstruction" in page(method).splitlines()[0]
