"""softcue inspect: two files and two lines, the same values as from Python, and mistakes on one line."""

import json
import sys
from pathlib import Path

import pytest

import softcue
from softcue.files import parse_json
from tests.answering.test_predict import random_adapter
from tests.cli.shell import Shell, make_place, make_shell  # noqa: F401  (fixtures)
from tests.tiny_base import tiny_base

METHOD_OF = {"attention": "pasta", "gates": "apt", "selection": "spt", "cell": "gpc", "plan": "stp"}
HOW = ("--precision", "float32", "--rows", "7")


@pytest.fixture(scope="module", autouse=True)
def _adapters(place: Path) -> None:
    for method in set(METHOD_OF.values()):
        random_adapter(tiny_base(), method).save(place / "looked" / method)
        random_adapter(tiny_base(), method, "tag").save(place / "looked" / f"{method}-tag")


@pytest.mark.parametrize("view", METHOD_OF)
def test_a_view_is_a_json_file_and_a_picture_with_the_values_that_python_gets(
    view: str, shell: Shell, tmp_path: Path
) -> None:
    given, out = (f"looked/{METHOD_OF[view]}", "data/classify"), tmp_path / "new" / "views"
    result = shell("inspect", view, *given, "--out", out, *HOW)
    assert result.code == 0, result.err
    assert f"saved {out}/{view}.json and {view}.png" in result.out
    assert 2 <= len(result.out.splitlines()) <= 3
    assert (out / f"{view}.png").read_bytes().startswith(b"\x89PNG")
    held = parse_json((out / f"{view}.json").read_bytes())
    found = getattr(softcue, f"inspect_{view}")(*given, backbone=tiny_base(), rows=7)
    assert held == {"softcue": "inspect", "view": view, **json.loads(json.dumps(found.to_json()))}
    again = shell("inspect", view, *given, "--out", out, *HOW, "--json")
    assert json.loads(again.out) == held, "it may be written over, and --json prints it"


def test_a_classifiers_gates_stand_beside_a_taggers(shell: Shell, tmp_path: Path) -> None:
    pairs = ("looked/apt", "data/classify", "looked/apt-tag", "data/tag")
    held = json.loads(shell("inspect", "gates", *pairs, "--out", tmp_path, *HOW, "--json").out)
    assert [own["shown"]["data"] for own in held["adapters"]] == ["classify", "tag"]
    assert (tmp_path / "gates.png").exists()


@pytest.mark.parametrize("view", METHOD_OF)
def test_a_tagger_is_looked_at_as_well(view: str, shell: Shell, tmp_path: Path) -> None:
    result = shell("inspect", view, f"looked/{METHOD_OF[view]}-tag", "data/tag", "--out", tmp_path, *HOW)
    assert result.code == 0, result.err


@pytest.mark.parametrize("view", [view for view in METHOD_OF if view != "attention"])
def test_a_wrong_method_is_one_line_and_nothing_is_written(view: str, shell: Shell, tmp_path: Path) -> None:
    told = shell.refused("inspect", view, "adapters/classify", "data/classify", "--out", tmp_path / "v", *HOW)
    assert told.count("\n") == 1
    assert "is an adapter of pasta and has no" in told
    assert f"expected one of {METHOD_OF[view]}" in told
    assert not (tmp_path / "v").exists()


def test_what_somebody_else_wrote_is_not_written_over(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "plan.png").write_text("precious")
    given = ("inspect", "plan", "looked/stp", "data/classify", "--out", tmp_path)
    assert "holds plan.png, which softcue did not write" in shell.refused(*given)
    (tmp_path / "plan.json").write_text('{"view": "mine"}')
    assert "holds plan.json, plan.png" in shell.refused(*given)
    assert (tmp_path / "plan.png").read_text() == "precious"


def test_without_matplotlib_it_says_what_to_install(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    told = shell.refused("inspect", "plan", "looked/stp", "data/classify", "--out", tmp_path / "v")
    assert "pip install 'softcue[plots]'" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("plan", "looked/stp"), "came with 1 words; expected an adapter and its data"),
        (("plan", "looked/stp", "data/classify", "looked/stp", "data/tag"), "came with 4 words"),
        (("gates", "looked/apt", "data/classify", "looked/apt"), "or several such pairs"),
        (("plan", "looked/stp", "data/classify", "--rows", "0"), "rows"),
        (("plan", "looked/stp", "data/pair"), "pairs of texts"),
        (("plan", "looked/stp", "data/tag"), "a tag record among text records"),
        (("plan", "looked/stp", "data/classify", "--split", "valid"), "split"),
    ],
)
def test_a_mistake_is_told(words: tuple[str, ...], told: str, shell: Shell, tmp_path: Path) -> None:
    assert told in shell.refused("inspect", *words, "--out", tmp_path / "v")


@pytest.mark.parametrize("view", METHOD_OF)
def test_every_view_has_help_with_an_example(view: str, shell: Shell) -> None:
    result = shell("inspect", view, "-h")
    assert result.code == 0
    assert f"Example: softcue inspect {view} " in " ".join(result.out.split())


def test_a_place_that_is_a_file_is_refused(shell: Shell) -> None:
    shell.refused("inspect", "plan", "looked/stp", "data/classify", "--out", "file", *HOW)
