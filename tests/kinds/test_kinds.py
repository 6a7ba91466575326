"""Kinds: each is one file, which nothing else names; a new one is trained, saved, asked and compared."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from softcue import api
from softcue.kinds import KINDS, Kind
from softcue.kinds.base import register_kind
from softcue.readers.records import Record
from softcue.scoring.metrics import METRICS
from softcue.studies.compare import majority
from tests.test_layout import MODULES, PACKAGE, ends_in_kind, strings
from tests.tiny_base import tiny_base, tiny_data


def test_every_kind_has_a_file_of_its_name() -> None:
    assert {kind for kind in KINDS if not (PACKAGE / "kinds" / f"{kind}.py").is_file()} == set()


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_a_kind_says_of_itself_is_known(kind: str) -> None:
    own = KINDS[kind]
    assert own.name == kind and own.metrics and set(own.metrics) <= set(METRICS)
    assert own.activation in ("softmax", "sigmoid", None)
    assert own.has_labels or own.labels([Record(text="a", label=1)]) == ()


def compared(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The names of kinds that something called kind is compared with."""
    for node in ast.walk(tree):
        sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        if any(map(ends_in_kind, sides)):
            yield from ((node.lineno, value) for side in sides for value in strings(side) if value in KINDS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_compares_a_kind_with_a_name(path: Path) -> None:
    assert list(compared(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_the_check_sees_a_planted_comparison() -> None:
    planted = 'if data.kind == "tag" or kind in ("score", "x") or given["kind"] != "choice": pass'
    assert {value for _, value in compared(ast.parse(planted))} == {"tag", "score", "choice"}


def test_readers_and_kinds_need_no_torch() -> None:
    script = (
        "import sys, softcue.kinds, softcue.readers, softcue.scoring.report; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert done.stdout.strip() == "False"


@pytest.fixture
def shout() -> Iterator[Kind]:
    """A new kind, as a file of its own would register it: labels that are answered in capitals."""

    class Shout(type(KINDS["classify"])):  # type: ignore[misc]
        name = "shout"

        def say(self, answer: Any, question: Any) -> dict[str, Any]:
            return {"shout": super().say(answer, question)["label"].upper()}

    register_kind(Shout())
    yield KINDS["shout"]
    del KINDS["shout"]


def test_a_new_kind_is_trained_saved_asked_and_scored(shout: Kind, tmp_path: Path) -> None:
    data = replace(tiny_data("classify", train=30, dev=9, test=9), kind="shout")
    adapter = api.train(data, backbone=tiny_base(), method="bitfit", settings={"epochs": 2, "rate": 1e-2})
    adapter.save(tmp_path / "shout")
    (answer,) = api.predict(tmp_path / "shout", [{"text": "the apple"}], backbone=tiny_base())
    assert answer["shout"].lower() in data.labels
    assert api.evaluate(tmp_path / "shout", data, backbone=tiny_base()).report["kind"] == "shout"
    assert 0 < majority(data, 0, tiny_base().text)["accuracy"] < 1
