"""Presets by kind and size: looked up from general to special, shipped sound, and found by a
script that goes on where it was.
"""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

import softcue.cues  # noqa: F401  (fills the registry)
from scripts.find_presets import (
    DEVELOPMENT,
    HELD_BACK,
    MARKER,
    METHODS,
    NOISE,
    best_rate,
    beyond,
    main,
    with_tables,
)
from softcue.base import open_base
from softcue.protocol import Cue
from softcue.training import settings
from softcue.training.job import Job, make_config, prepare
from softcue.training.settings import SMALL, preset
from tests.studies.sweep_cases import write_data
from tests.tiny_base import base_folder, tiny_data

KINDS = ("classify", "score", "choice", "tag")
SHIPPED = Path(settings.__file__).parents[1] / "presets.toml"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Presets of the test's own."""
    table: dict[str, Any] = {
        "default": {
            "rate": 1.0,
            "batch": 32,
            "examples": 100,
            "fewest_epochs": 1,
            "most_epochs": 9,
            "small": {"clip": 0.5, "batch": 8},
        },
        "spt": {
            "rate": 2.0,
            "tag": {"rate": 3.0, "batch": 16, "length": 5, "small": {"rate": 4.0, "most_epochs": 5}},
            "score": {"small": {"rate": 5.0}},
        },
    }
    monkeypatch.setattr(settings, "_presets", lambda: table)
    return table


def test_the_most_special_table_wins(tables: dict[str, Any]) -> None:
    rates = {
        (kind, rows): preset("spt", kind, rows, {}).rate for kind in KINDS for rows in (SMALL - 1, SMALL)
    }
    assert rates == {
        ("classify", SMALL - 1): 2.0,
        ("classify", SMALL): 2.0,
        ("score", SMALL - 1): 5.0,
        ("score", SMALL): 2.0,
        ("choice", SMALL - 1): 2.0,
        ("choice", SMALL): 2.0,
        ("tag", SMALL - 1): 4.0,
        ("tag", SMALL): 3.0,
    }
    assert preset("probe", "tag", 10, {}).rate == 1.0
    assert [preset("spt", "score", rows, {}).clip for rows in (SMALL - 1, SMALL)] == [0.5, 1.0]
    assert [preset("spt", kind, SMALL - 1, {}).batch for kind in ("score", "tag")] == [8, 16]
    assert preset("spt", "tag", 10, {"rate": 7.0}).rate == 7.0


def test_a_special_table_keeps_what_it_does_not_name(tables: dict[str, Any]) -> None:
    assert preset("spt", "tag", 10, {}).batch == 16
    assert (preset("spt", "tag", 10, {}).epochs, preset("spt", "classify", 10, {}).epochs) == (5, 9)


def test_a_methods_own_settings_come_from_its_tables_and_the_user_wins(tables: dict[str, Any]) -> None:
    tables["spt"]["tau"] = 2.0
    made = {kind: make_config(Cue.registry["spt"], kind, {}) for kind in KINDS}
    assert {kind: (config.length, config.tau) for kind, config in made.items()} == {
        **dict.fromkeys(KINDS, (16, 2.0)),
        "tag": (5, 2.0),
    }
    assert make_config(Cue.registry["spt"], "tag", {"length": 7}).length == 7


def test_what_is_trained_has_the_presets_length(tables: dict[str, Any]) -> None:
    base = open_base(base_folder(), precision="float32")
    assert {
        kind: prepare(Job(tiny_data(kind), "spt"), base).cue.config.length for kind in ("classify", "tag")
    } == {
        "classify": 16,
        "tag": 5,
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", sorted(Cue.registry))
def test_every_shipped_preset_names_what_the_method_has(method: str, kind: str) -> None:
    assert make_config(Cue.registry[method], kind, {})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [*sorted(Cue.registry), "full"])
def test_every_shipped_preset_is_sound(method: str, kind: str) -> None:
    few, many = preset(method, kind, 10, {}), preset(method, kind, 1_000_000, {})
    assert few.epochs > many.epochs >= 1
    assert 0 < few.rate < 1


def test_the_shipped_file_has_tables_of_known_names_only() -> None:
    for name, table in tomllib.loads(SHIPPED.read_text(encoding="utf-8")).items():
        assert name in {*Cue.registry, "default", "full"}
        nested = {key: value for key, value in table.items() if isinstance(value, dict)}
        assert set(nested) <= ({"small"} if name == "default" else set(KINDS))
        assert all(
            {key for key, value in own.items() if isinstance(value, dict)} <= {"small"}
            for own in nested.values()
        )


def test_the_halves_are_apart_and_every_method_that_can_be_packed_is_swept() -> None:
    development = {name for sizes in DEVELOPMENT.values() for names in sizes.values() for name in names}
    held = {name for names in HELD_BACK.values() for name in names}
    assert not development & held
    assert set(METHODS) == {name for name, cls in Cue.registry.items() if not cls.frozen_outputs}


def test_the_best_rate_is_that_of_the_best_mean_unless_the_usual_one_is_as_good_but_for_noise() -> None:
    scores = {0.1: {"a": 0.5, "b": 0.9}, 0.2: {"a": 0.8, "b": 0.8}, 0.3: {"a": 0.8, "b": 0.81}}
    assert best_rate(scores, usual=0.1, noise=0.0) == 0.3
    assert best_rate(scores, usual=0.1, noise=0.01) == 0.2
    assert best_rate(scores, usual=0.1, noise=0.2) == 0.1
    assert best_rate({0.1: {"a": 0.5}, 0.2: {"a": float("-inf")}}, usual=0.2, noise=0.1) == 0.1


def test_where_the_best_rate_is_an_end_those_beyond_it_are_tried_once() -> None:
    def scores(best: float) -> dict[float, dict[str, float]]:
        return {rate: {"a": -abs(rate - best)} for rate in (1e-3, 1e-2, 1e-1)}

    assert beyond(scores(1e-2)) == []
    assert beyond(scores(1e-1)) == [0.3]
    assert beyond(scores(1e-3)) == [0.0003333]
    assert beyond({float(rate): {"a": float(rate)} for rate in range(1, 10)}) == []


def test_what_was_found_before_is_replaced_and_the_rest_of_the_file_is_kept() -> None:
    shipped = SHIPPED.read_text(encoding="utf-8")
    one = [
        {"method": "pasta", "kind": "tag", "size": "large", "rate": 0.5},
        {"method": "pasta", "kind": "tag", "size": "small", "rate": 0.25},
    ]
    once = with_tables(shipped, one, "minilm")
    again = with_tables(once, [{**one[0], "rate": 0.125}], "minilm")
    assert once.startswith(shipped.partition(MARKER)[0].rstrip())
    assert tomllib.loads(once)["pasta"]["tag"] == {"rate": 0.5, "small": {"rate": 0.25}}
    assert tomllib.loads(again)["pasta"]["tag"] == {"rate": 0.125}
    assert again.count(MARKER) == 1


def test_a_table_keeps_what_other_studies_chose() -> None:
    shipped = (
        f"[spt]\nrate = 0.5\n\n{MARKER}\n\n[spt.tag]\nrate = 0.5\nhead_rate = 0.1\nexamples = "
        "40_000\nlength = 64\n"
    )
    found = [{"method": "spt", "kind": kind, "size": "large", "rate": 0.25} for kind in ("tag", "score")]
    made = tomllib.loads(with_tables(shipped, found, "minilm"))
    assert made["spt"] == {
        "rate": 0.5,
        "tag": {"rate": 0.25, "head_rate": 0.1, "examples": 40_000, "length": 64},
        "score": {"rate": 0.25},
    }


def test_the_script_finds_rates_shows_its_evidence_and_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path / "sst2", tiny_data("classify"))
    arguments = [
        "--data-root",
        str(tmp_path),
        "--out",
        str(tmp_path / "found"),
        "--backbone",
        str(base_folder()),
        "--precision",
        "float32",
    ]
    arguments += ["--methods", "bitfit,pasta", "--kinds", "classify", "--quick"]
    main(arguments)
    evidence = json.loads((tmp_path / "found" / "presets.json").read_text())
    presets = tomllib.loads((tmp_path / "found" / "presets.toml").read_text())
    for found in evidence["found"]:
        tried = {row["rate"]: row["mean"] for row in found["tried"]}
        assert tried[found["rate"]] >= max(tried.values()) - NOISE[found["size"]]
        told = presets[found["method"]][found["kind"]]
        assert (told["small"] if found["size"] == "small" else told)["rate"] == found["rate"]
    new = [found for found in evidence["found"] if "--quick" in found["command"]]
    made = sorted((found["method"], found["kind"], found["size"]) for found in new)
    assert made == [("bitfit", "classify", "large"), ("pasta", "classify", "large")]
    assert all(str(tmp_path) not in found["command"] for found in new)
    before = {
        file: file.stat().st_mtime_ns for file in (tmp_path / "found" / "sweeps").rglob("groups/*.json")
    }
    main(arguments)
    assert json.loads((tmp_path / "found" / "presets.json").read_text()) == evidence
    assert {
        file: file.stat().st_mtime_ns for file in (tmp_path / "found" / "sweeps").rglob("groups/*.json")
    } == before


@pytest.mark.parametrize(
    "flags", [["--kinds", "nope"], ["--methods", "nope"], ["--backbone", "no-such-thing"]]
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, flags: list[str]) -> None:
    given = [
        "--data-root",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
        "--backbone",
        str(base_folder()),
        "--quick",
        *flags,
    ]
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert str(ended.value.code).startswith("find_presets: ")
    assert "\n" not in str(ended.value.code)
