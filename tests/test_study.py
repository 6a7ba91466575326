"""The study: its plan, its draws, and cells that are written one by one and not run twice."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch

from scripts.presets_page import checked, short
from softcue.files import write_file
from softcue.protocol import Dims
from softcue.readers import Record
from studies.methods import __main__ as command
from studies.methods.__main__ import RESULTS
from studies.methods.cell import classes_of, draw, token_cosine
from studies.methods.held_back import held_back_difference
from studies.methods.page import PAGE, page
from studies.methods.plan import ARMS, CORE, METHODS, SEEDS, PlannedCell, planned_cells, random_layers
from studies.methods.summary import difference, read_study
from tests.adapter.adapter_cases import make


def test_the_core_is_in_the_plan_once_with_every_seed() -> None:
    names = [cell.name for cell in planned_cells()]
    assert len(names) == len(set(names))
    core = {
        PlannedCell("minilm", data, arm, seed).name
        for data in CORE
        for arm in METHODS
        for seed in range(SEEDS)
    }
    assert core <= set(names)
    assert {cell.arm for cell in planned_cells()} == set(ARMS)


def test_a_draw_has_as_many_examples_of_each_class_as_there_are() -> None:
    records = [Record(text=str(i), label=f"label {i % 3 and 1}") for i in range(90)]
    few = draw(records, 16, seed=0)
    assert Counter(record.label for record in few) == {"label 0": 16, "label 1": 16}
    assert few == draw(records, 16, seed=0)
    assert few != draw(records, 16, seed=1)
    assert len(draw(records, 200, seed=0)) == 90


def test_a_tagged_text_counts_for_the_types_of_its_entities() -> None:
    record = Record(tokens=("Ann", "in", "Rome"), tags=("B-PER", "O", "B-LOC"))
    assert classes_of(record) == {"PER", "LOC"}
    assert classes_of(Record(tokens=("in",), tags=("O",))) == {"O"}


def test_random_layers_are_as_many_as_asked_for() -> None:
    dims = Dims(layers=6, hidden=8, heads=2, embed=8, ff=16, pooler=False)
    drawn = random_layers(dims, (5, 2), seed=0)
    assert [len(set(layers)) for layers in drawn.values()] == [5, 2]
    assert drawn != random_layers(dims, (5, 2), seed=1)


def test_a_cell_that_is_there_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def run(cell: PlannedCell, *rest: Any) -> dict[str, Any]:
        ran.append(cell.name)
        return {"metrics": ["accuracy"], "scores": {"accuracy": 0.5}, "seconds": {"wall": 1.0}}

    monkeypatch.setattr(command, "run_planned", run)
    monkeypatch.setattr(command, "open_base", lambda *rest, **more: None)
    wanted = ["minilm/glue-sst2/2000-rows/pasta-0", "minilm/glue-sst2/2000-rows/pasta-1"]
    arguments = ["--data-root", str(tmp_path), "--out", str(tmp_path), "--only", ",".join(wanted)]
    (tmp_path / wanted[0]).parent.mkdir(parents=True)
    write_file(tmp_path / f"{wanted[0]}.json", b"{}")
    command.main(arguments)
    assert ran == wanted[1:]
    assert json.loads((tmp_path / f"{wanted[1]}.json").read_text())["scores"] == {"accuracy": 0.5}
    command.main([*arguments, "--anew"])
    assert ran == [wanted[1], *wanted]
    command.main([*arguments, "--anew", "--minutes", "-1"])
    assert len(ran) == 3


def test_the_page_says_what_the_files_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(read_study(RESULTS), checked()), (
        "run python -m studies.methods.page"
    )


def test_a_claim_on_the_held_back_sets_is_the_difference_of_means_over_seeds() -> None:
    results = checked()
    found = held_back_difference(results, "pasta", "full")
    seeds = {
        short(result): [
            result["table"][method]["scores"][result["metrics"][0]]["seeds"] for method in ("pasta", "full")
        ]
        for result in results
    }
    assert found.by_set == pytest.approx({name: mean(a) - mean(b) for name, (a, b) in seeds.items()})
    assert len(found.by_set) == 6
    assert not held_back_difference(results, "pasta", "bitfit").by_set  # which was not measured there


def test_a_difference_counts_only_seeds_that_both_have() -> None:
    def cells_of(*scores: float) -> dict[int, dict[str, Any]]:
        return {
            seed: {"metrics": ["accuracy"], "scores": {"accuracy": score}}
            for seed, score in enumerate(scores)
        }

    cells = {
        ("minilm", "one", "2000-rows", "spt"): cells_of(0.8, 0.9, 0.1),
        ("minilm", "one", "2000-rows", "ptuning"): cells_of(0.7, 0.7),
        ("minilm", "two", "2000-rows", "spt"): cells_of(0.5),
        ("minilm", "two", "2000-rows", "ptuning"): cells_of(0.6),
    }
    sets = ["one", "two", "three"]
    found = difference(cells, "minilm", sets, "2000-rows", "spt", "ptuning")
    assert found.by_set == pytest.approx({"one": 0.15, "two": -0.1})
    assert found.mean == pytest.approx(0.025)
    assert found.half_width == pytest.approx(12.706 * 0.125, abs=1e-3)  # t of one degree of freedom
    assert found.verdict == "not told apart"
    one = difference(cells, "minilm", ["one"], "2000-rows", "spt", "ptuning")
    assert one.verdict == "too few sets"
    assert difference(cells, "minilm", ["three"], "2000-rows", "spt", "ptuning").by_set == {}


def test_the_cosine_of_prefix_tokens_is_the_mean_over_pairs() -> None:
    kv = torch.zeros(1, 2, 3, 1, 2)  # (L, 2, P, H, K)
    kv[0, :, 0, 0], kv[0, :, 1, 0], kv[0, :, 2, 0] = (
        torch.tensor(v) for v in ([1.0, 0], [0, 2.0], [0, -3.0])
    )
    adapter = replace(make("spt"), cue={"kv": kv})
    assert token_cosine(adapter) == pytest.approx(1 / 3)
