"""The site and the tutorial: every page has its place, every public name is told, what is shown runs."""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import softcue
from scripts.blocks import all_blocks, commands, shortened
from scripts.run_notebooks import executed
from scripts.site_pages import PAGES, page_of, with_links
from softcue import cli
from tests.serving.processes import started

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
TUTORIAL = (DOCS / "tutorial.md").read_text(encoding="utf-8")


def pages_of(nav: object) -> list[str]:
    """The pages that a part of mkdocs.yml's nav names."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in pages_of(part)]  # type: ignore[attr-defined]


def test_every_page_and_notebook_has_its_place_in_the_site() -> None:
    named = pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    written = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    made = [*PAGES, *(f"notebooks/{path.stem}.md" for path in NOTEBOOKS)]
    assert sorted(named) == sorted([*written, *made]), "name each page in the nav of mkdocs.yml, once"


def test_every_public_name_is_in_the_reference_and_what_it_names_exists() -> None:
    told = re.findall(r"^::: (\S+)$", (DOCS / "reference.md").read_text(encoding="utf-8"), re.MULTILINE)
    objects = []
    for path in told:
        module, _, name = path.rpartition(".")
        objects.append(getattr(import_module(module), name))
    public = {name: getattr(softcue, name) for name in softcue.__all__ if not name.startswith("__")}
    missing = [name for name, one in public.items() if one not in objects and one.__module__ not in told]
    assert not missing


@pytest.mark.parametrize(
    ("page", "text", "shown"),
    [
        (
            "index.md",
            "![a](docs/plots/x.png) [b](docs/serving.md#asking)",
            "![a](plots/x.png) [b](serving.md#asking)",
        ),
        ("methods/lora.md", "[a](../fan-out.md) [b](pasta.md)", "[a](../fan-out.md) [b](pasta.md)"),
        ("serving.md", "[a](../deploy/Dockerfile), [b](../README.md#install)", "a, [b](index.md#install)"),
        (
            "tutorial.md",
            "[a](notebooks/tagger.ipynb) [b](https://x.org/y)",
            "[a](notebooks/tagger.md) [b](https://x.org/y)",
        ),
        ("tutorial.md", "```python\nx = [a](../README.md)\n```", "```python\nx = [a](../README.md)\n```"),
    ],
)
def test_links_lead_to_pages_of_the_site_and_others_become_words(page: str, text: str, shown: str) -> None:
    assert with_links(text, page) == shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_every_cell_but_silent_ones_printed(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["execution_count"], "run python -m scripts.run_notebooks"
            assert ("print(" in "".join(cell["source"])) == bool(cell["outputs"])
            assert not [output for output in cell["outputs"] if output.get("name") == "stderr"]
    page = page_of(notebook)
    assert page.startswith("# ")
    assert page.count("```python\n") == sum(cell["cell_type"] == "code" for cell in notebook["cells"])


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_an_empty_folder(path: Path) -> None:
    pytest.importorskip("nbclient", reason="nbclient runs notebooks; the extra test brings it")
    cells = [cell for cell in executed(path).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)


@pytest.mark.slow
def test_the_tutorial_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    served: list[str] = []
    for language, text in all_blocks(TUTORIAL):
        if language == "python":
            words = [sys.executable, "-W", "error", "-c", text]
            done = subprocess.run(
                words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
            )
            assert done.returncode == 0, done.stderr
            told.append(done.stdout)
            continue
        for line in commands(text):
            words = shlex.split(shortened(line))
            if words[0] == "curl" or words[1] == "serve":
                served.append(line)
                continue
            monkeypatch.setattr(sys, "argv", words)
            with contextlib.suppress(SystemExit):
                cli.main()
            told.append(capsys.readouterr().out)
    assert told[0] == "480 messages for 12 teams\n"
    assert json.loads(told[-2])["label"]
    start, *asked = served
    assert shlex.split(start)[:3] == ["softcue", "serve", "adapters"]
    with started("-m", "softcue", "serve", tmp_path / "adapters", "--port", "0") as server:
        answers = [
            subprocess.run(
                line.replace("localhost:8000", server.url), shell=True, capture_output=True, check=True
            )
            for line in asked
        ]
    assert b'"label"' in answers[-1].stdout


@pytest.mark.slow
def test_the_site_is_built_and_every_link_in_it_leads_somewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings", reason="mkdocs builds the site; the extra docs brings it")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in ("index.html", "tutorial/index.html", "notebooks/tagger/index.html"):
        assert (tmp_path / page).is_file()
    reference = (tmp_path / "reference" / "index.html").read_text(encoding="utf-8")
    assert "softcue.api.train" in reference
    fetched = [
        path for path in tmp_path.rglob("*.html") if "fonts.googleapis" in path.read_text(encoding="utf-8")
    ]
    assert not fetched
