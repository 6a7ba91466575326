"""README, changelog and architecture: their code runs, their lists are complete, their links
lead somewhere.
"""

import contextlib
import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import softcue
from scripts.blocks import all_blocks, blocks, commands, shortened
from softcue import cli
from softcue.cues import Cue
from softcue.kinds import KINDS
from tests.test_layout import LEVELS, PACKAGE

ROOT = PACKAGE.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def shell_lines() -> list[str]:
    """The commands of all bash blocks."""
    return [line for text in blocks(README, "bash") for line in commands(text)]


def shell_words() -> list[list[str]]:
    """The commands of all bash blocks, as words."""
    return [shlex.split(line, comments=True) for line in shell_lines()]


def test_every_block_is_of_a_language_that_is_tested() -> None:
    assert {language for language, _ in all_blocks(README)} == {"bash", "python", "text"}
    assert {words[0] for words in shell_words()} == {"make", "pip", "printf", "softcue"}


def test_make_targets_and_installed_things_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
    for words in shell_words():
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE)
        if words[0] == "pip" and "-c" in words:
            assert words[1:4] == ["install", "-c", "constraints.txt"]
            assert words[-1] == "." or re.search(rf"^{words[-1].split('==')[0]}==", pins, re.MULTILINE), (
                words[-1]
            )
            assert "==" not in words[-1] or words[-1] in pins, "pinned as in constraints.txt"
            assert words[-1] == "." or words[-1] in makefile, "installed as make does it"


@pytest.mark.slow
def test_the_commands_and_the_tour_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in shell_lines():
        words = shlex.split(shortened(line), comments=True)
        if words[0] == "printf":
            subprocess.run(line, shell=True, check=True)
        if words[0] == "softcue" and words != ["softcue", "quickstart"]:  # which has its own test
            monkeypatch.setattr(sys, "argv", words)
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
                cli.main()
            assert out.getvalue() or "--out" in words, words
    asked, answered = (Path(name).read_text().splitlines() for name in ("messages.jsonl", "answers.jsonl"))
    assert len([json.loads(line) for line in answered]) == len(asked) == 2
    for text in blocks(README, "python"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", text],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        assert "urgency selected on dev, reported on test" in done.stdout


def test_the_tour_is_about_twenty_lines() -> None:
    (tour,) = blocks(README, "python")
    assert sum(bool(line.strip()) for line in tour.splitlines()) <= 22


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not target.startswith("https://"):
            assert (path.parent / target.partition("#")[0]).exists(), target
    assert "/work/" not in text


def test_the_table_of_methods_is_the_registry_with_the_grades_of_the_method_pages() -> None:
    rows = dict(re.findall(r"^\| \[`(\w+)`\]\(docs/methods/\1\.md\) \|.*\| (.*) \|$", README, re.MULTILINE))
    assert set(rows) == {*Cue.registry, "full"}
    pages = dict(
        re.findall(
            r"^\| \[`(\w+)`\]\(\1\.md\) \|.*\| (.*) \|$",
            (ROOT / "docs/methods/README.md").read_text(),
            re.MULTILINE,
        )
    )
    for method, grade in rows.items():
        assert ("reconstruction" in pages[method]) == ("reconstruction**" in grade), method
        if "reconstruction" not in grade:
            assert grade == pages[method]


def test_the_kinds_of_data_are_all_there_and_their_records_are_json() -> None:
    rows = re.findall(r"^\| (\w+) \| (`\{.*?\}`|the same.*?)(?:,.*?)? \| ", README, re.MULTILINE)
    assert [kind for kind, _ in rows] == list(KINDS)
    for _, record in rows:
        if record.startswith("`"):
            json.loads(record.strip("`"))


def test_the_tree_names_every_module_and_nothing_else() -> None:
    (tree,) = [text for text in blocks(README, "text") if text.startswith("softcue/")]
    named = {
        word for line in tree.splitlines()[1:-1] for word in re.split(r"\s{3,}", line.strip())[0].split()
    }
    there = {
        path.name + "/" * path.is_dir()
        for path in PACKAGE.iterdir()
        if not path.name.startswith("__pycache__")
    }
    quiet = {"__init__.py", "py.typed"}
    assert named == there - quiet


def test_the_architecture_shows_the_layout_that_is_enforced() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    shown = [
        line.split()
        for line in re.findall(r"^```text\n(errors\n.*?)^```$", text, re.DOTALL | re.MULTILINE)[
            0
        ].splitlines()
    ]
    assert shown == [list(level) for level in LEVELS]


def test_the_changelog_has_the_version_or_is_unreleased() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[(Unreleased|{re.escape(softcue.__version__)})\]", text, re.MULTILINE)
    assert set(re.findall(r"^### (\w+)", text, re.MULTILINE)) <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }


def test_the_first_result_is_what_was_measured() -> None:
    rows = re.findall(r"^\| (\w+) \| (\w+) \| ((?:\d\.\d{3} \| ){5}\d\.\d{3}) \|$", README, re.MULTILINE)
    files = {file.stem: file for file in (ROOT / "benchmarks/results/presets").glob("*-2000.json")}
    assert {f"{name}-2000" for name, _, _ in rows} == set(files), "every set that was held back"
    for name, metric, shown in rows:
        held = json.loads(files[f"{name}-2000"].read_text(encoding="utf-8"))
        assert metric == held["metrics"][0]
        methods = ("probe", "pasta", "spt", "apt", "lora", "full")
        means = [held["table"][method]["scores"][metric]["mean"] for method in methods]
        assert shown == " | ".join(f"{mean:.3f}" for mean in means), name


def test_the_cost_of_mixing_is_what_was_measured() -> None:
    held = json.loads((ROOT / "benchmarks/results/float32/mixed.json").read_text(encoding="utf-8"))
    times = [row["x bare encoder"] for row in held["rows"] if "x bare encoder" in row]
    assert f"takes {min(times):.2f} to {max(times):.2f} times as long" in README


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme_table", ROOT / "scripts" / "readme_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_quickstart_table_is_rewritten_in_place_and_twice_is_as_once(
    script: ModuleType, tmp_path: Path
) -> None:
    row = {
        "task": "intent",
        "method": "pasta",
        "metric": "accuracy",
        "score": 0.5,
        "parameters": 10,
        "share": 0.001,
        "kilobytes": 3.0,
    }
    (tmp_path / "quickstart").mkdir()
    (tmp_path / "quickstart" / "quickstart.json").write_text(json.dumps({"rows": [row]}))
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    script.main(tmp_path)
    once = (tmp_path / "README.md").read_text(encoding="utf-8")
    script.main(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == once
    assert "| intent | pasta | accuracy 0.500 | 10 | 0.100% | 3 |" in once
    before, after = README.split(script.BEGIN)[0], README.split(script.END)[1]
    assert once.startswith(before)
    assert once.endswith(after)
    assert "python scripts/readme_table.py" in once, "the command stands beside the numbers"


@pytest.mark.parametrize(
    "text",
    [
        "no marks",
        "<!-- quickstart:end --> <!-- quickstart:begin -->",
        "<!-- quickstart:begin -->" * 2 + "<!-- quickstart:end -->",
    ],
)
def test_a_readme_without_its_marks_is_left_alone(script: ModuleType, text: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        script.rewritten(text, "new")


def test_without_a_quickstart_there_is_no_table(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run make quickstart first"):
        script.main(tmp_path)
