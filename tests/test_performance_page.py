"""The pages on performance compare what was measured, never what they show, and say what is missing."""

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.performance import KINDS, PLOTS, ROOT, SECTIONS, main, measured_on, page, plots, section, tables
from scripts.performance_targets import PROCESSORS, TARGETS, Target

MACHINE: dict[str, Any] = {
    "processor": "Some CPU",
    "units": ["avx2", "amx_bf16"],
    "threads": 2,
    "clock": "wall",
    "rounds": 7,
    "quick": False,
    "python": "3.11.7",
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "peft": "0.21.2",
    "commit": "abc1234",
    "changed": True,
}
TRAINING = Target(
    "train",
    "training",
    ("sst2", "mrpc"),
    {"x default": 5, "x best": 2.2},
    {"backbone": "minilm", "side": "pasta"},
)
MEMORY = Target(
    "memory", "memory", ("bert-base",), {"x transformers full": 0.35}, {"side": "softcue pasta"}, most=True
)


def result(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"machine": MACHINE, "rows": list(rows)}


def trained(task: str, default: float, best: float, backbone: str = "minilm") -> dict[str, Any]:
    return {"backbone": backbone, "task": task, "side": "pasta", "x default": default, "x best": best}


def test_a_target_is_met_when_every_task_meets_every_goal() -> None:
    rows = result(
        trained("sst2", 1.0, 1.0, "bert-base"), trained("sst2", 7.61, 2.5), trained("mrpc", 5.0, 2.2)
    )
    assert TRAINING.row({"training": rows}) == {
        "what": "train",
        "where": "sst2, mrpc: the worst counts",
        "target": "x default >= 5, x best >= 2.2",
        "reached": "sst2 7.61 / 2.5; mrpc 5 / 2.2",
        "met": "yes",
    }


def test_a_miss_by_less_than_what_is_shown_is_a_miss_and_shows_it() -> None:
    row = TRAINING.row({"training": result(trained("sst2", 7.6, 2.5), trained("mrpc", 4.99996, 2.4))})
    assert (row["reached"], row["met"]) == ("sst2 7.6 / 2.5; mrpc 4.99996 / 2.4", "no")
    above = MEMORY.row(
        {"memory": result({"backbone": "bert-base", "side": "softcue pasta", "x transformers full": 0.35001})}
    )
    assert (above["target"], above["reached"], above["met"]) == (
        "x transformers full <= 0.35",
        "bert-base 0.35001",
        "no",
    )
    below = MEMORY.row(
        {"memory": result({"backbone": "bert-base", "side": "softcue pasta", "x transformers full": 0.34999})}
    )
    assert (below["reached"], below["met"]) == ("bert-base 0.35", "yes")


def test_what_was_not_measured_is_neither_met_nor_missed_unless_another_case_misses() -> None:
    nothing, some, missed = (
        TRAINING.row(results)
        for results in (
            {},
            {"training": result(trained("sst2", 7.6, 2.5))},
            {"training": result(trained("sst2", 7.6, 2.1))},
        )
    )
    assert (nothing["reached"], nothing["met"]) == ("not measured yet", "not measured yet")
    assert (some["reached"], some["met"]) == ("sst2 7.6 / 2.5; mrpc not measured yet", "not measured yet")
    assert missed["met"] == "no"
    assert TRAINING.brief({}) == TRAINING.brief({"training": result(trained("sst2", 7.6, 2.5))})
    assert TRAINING.brief({}) == "not measured yet"


def test_the_short_table_shows_the_worst_of_each_figure_and_what_the_full_one_says() -> None:
    rows = {"training": result(trained("sst2", 7.6, 2.1), trained("mrpc", 5.5, 2.4))}
    assert TRAINING.brief(rows) == "no: 5.5 / 2.1"
    most = [{"backbone": "bert-base", "side": "softcue pasta", "x transformers full": 0.2}]
    assert MEMORY.brief({"memory": result(*most)}) == "yes: 0.2"
    found = {"mixed": result({"tasks": 32, "side": "pasta", "x bare encoder": 1.06})}
    line = next(target for target in TARGETS if "pasta" in target.cases)
    text = page({"bfloat16": found, "float32": {}})
    assert f"| {line.what} | pasta, stp | x bare encoder <= 1.05 | no: 1.06 | not measured yet |" in text


def test_a_section_without_a_file_says_so_with_the_command() -> None:
    text = section("packed_sweep", {})
    assert "## Packed sweep\n" in text
    assert "\nSOFTCUE_DATA=FOLDER python -m benchmarks.packed_sweep\n" in text
    assert text.endswith("\nNot measured yet.\n")


def test_a_section_has_the_command_that_made_it_its_table_and_its_machine() -> None:
    text = section(
        "precision", {"float32": result({"task": "sst2", "loss": 0.5, "loss, by seed": [0.51234, 0.48766]})}
    )
    assert "python -m benchmarks.precision --threads 2 --clock wall --repeat 7\n" in text
    assert "| sst2 | 0.5 | 0.512, 0.488 |" in text
    assert measured_on(MACHINE) in text
    assert "Some CPU (avx2, amx_bf16)" in text
    assert "commit abc1234, with changes that are not in it." in " ".join(text.split())
    assert "unfinished" not in text


def test_a_section_says_that_its_benchmark_was_stopped() -> None:
    stopped = {**result({"task": "sst2", "loss": 0.5}), "unfinished": True}
    text = section("precision", {"float32": stopped})
    assert text.endswith("\nThe benchmark is unfinished; what is missing was not measured yet.\n")


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_every_plot_that_is_shown_is_one_that_is_drawn(name: str) -> None:
    text = plots({"float32": {name: result({"side": "pasta"})}})
    assert (f"![{name}, float32](plots/{name}-float32.png)" in text) == (name in PLOTS)
    assert "bfloat16.png" not in text


def test_a_section_has_what_each_kind_of_processor_gave() -> None:
    text = section("fresh", {kind: result({"side": f"of {kind}"}) for kind in PROCESSORS})
    places = [text.index(part) for kind in PROCESSORS for part in (PROCESSORS[kind], f"| of {kind} |")]
    assert places == sorted(places)


def test_the_page_counts_the_targets_of_each_kind_of_processor() -> None:
    found = {"bfloat16": {"training": result(trained("atis_intent", 3.1, 1.7))}, "float32": {}}
    text, short = tables(found), page(found)
    count = len(TARGETS)
    assert (
        f"Targets met on processors: 0 of {count} with units for bfloat16, {count - 1} not measured yet; "
        f"0 of {count} without, {count} not measured yet." in short
    )
    assert (
        f"{PROCESSORS['bfloat16']}: 0 of {len(TARGETS)} are met, 1 are not, {len(TARGETS) - 1} are not "
        "measured yet." in text
    )
    assert (
        f"{PROCESSORS['float32']}: 0 of {len(TARGETS)} are met, 0 are not, {len(TARGETS)} are not "
        "measured yet." in text
    )
    assert "| atis_intent 3.1 / 1.7 | no |" in text


def test_the_script_writes_the_page_and_its_plots_from_the_files_that_are_there(tmp_path: Path) -> None:
    rows = [
        {"method": method, "axis": "batch", "value": n, "us a token": 9.0 / n}
        for method in ("pasta", "ptuning")
        for n in (1, 4)
    ]
    folder = tmp_path / "benchmarks" / "results" / "float32"
    folder.mkdir(parents=True)
    (folder / "scaling.json").write_text(json.dumps(result(*rows)), encoding="utf-8")
    main(tmp_path)
    assert [file.name for file in (tmp_path / "docs" / "plots").iterdir()] == ["scaling-float32.png"]
    short = (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8")
    assert "(plots/scaling-float32.png)" in short
    text = (tmp_path / "docs" / "performance-tables.md").read_text(encoding="utf-8")
    assert text.count("\nNot measured yet.\n") == len(SECTIONS) - 1
    assert "| ptuning | batch | 4 | 2.25 |" in text


@pytest.mark.parametrize("name", ["performance.md", "performance-tables.md"])
def test_lines_are_110_columns_at_most_but_for_tables(name: str) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if len(line) > 110 and not line.startswith("|")] == []


def test_the_short_page_is_one_screen() -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 50
    assert "](performance-tables.md)" in text


def test_the_pages_are_what_the_files_say() -> None:
    found: dict[str, dict[str, Any]] = {}
    for file in sorted((ROOT / "benchmarks" / "results").glob("*/*.json")):
        if file.parent.name in KINDS and file.stem in SECTIONS:
            found.setdefault(file.parent.name, {})[file.stem] = json.loads(file.read_text(encoding="utf-8"))
    for name, text in (("performance.md", page(found)), ("performance-tables.md", tables(found))):
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, "python -m scripts.performance"
