"""Recipes are the published settings: all of them parse, name what exists, and hold the numbers
of the published scripts.
"""

import json
import math
import re
from pathlib import Path

import pytest

from softcue.cues import Cue
from softcue.encoder.load import HUB_ID
from softcue.errors import RequestError
from softcue.heads import POOLINGS
from softcue.tasks import all_tasks
from softcue.training.job import make_config
from softcue.training.recipes import Recipe, load_recipe, recipe_names, train_arguments
from softcue.training.settings import Training, preset, preset_config, split_settings
from tests.studies.test_compare import run_cli, tiny_backbone, write_rows

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
KINDS = {task.name: task.kind for task in all_tasks()}
# method, task, backbone: batch, rate, length, epochs, seed, and what is special; copied from the published
# scripts
PUBLISHED: dict[str, tuple[int, float, int | None, int, int, dict[str, float | str]]] = {
    "pasta-mrpc-bert-large-cased": (32, 2.5e-4, None, 150, 42, {"clip": 0.0, "schedule": "linear"}),
    "pasta-conll03-bert-large-cased": (16, 3e-3, None, 100, 42, {"clip": 0.0, "schedule": "linear"}),
    "spt-boolq-bert-base-cased": (
        32,
        5e-3,
        40,
        100,
        11,
        {"tau": 4.0, "diversity": 1e-4, "schedule": "linear"},
    ),
    "spt-copa-bert-large-cased": (16, 1e-2, 25, 80, 44, {"score_dropout": 0.25, "key_dropout": 0.1}),
    "spt-rte-bert-base-cased": (32, 1e-2, 8, 50, 44, {"tau": 1.0, "diversity": 2e-4}),
    "spt-rte-roberta-large": (32, 5e-3, 128, 150, 11, {"tau": 4.0}),
    "spt-wic-roberta-large": (8, 1e-2, 8, 60, 11, {"diversity": 1e-3}),
    "spt-wsc-bert-base-cased": (16, 5e-4, 20, 50, 100, {"diversity": 1e-4}),
    "spt-conll04-bert-base-uncased": (32, 2e-2, 128, 40, 11, {"schedule": "exponential", "clip": 1.0}),
    "ptuning-wic-bert-large-cased": (16, 1e-4, 20, 80, 44, {"mlp": 512}),
    "ptuning-copa-roberta-large": (16, 9e-3, 8, 120, 11, {"dropout": 0.1}),
    "ptuning-conll04-bert-large-uncased": (32, 2e-2, 128, 40, 11, {"dropout": 0.2}),
    "ptuning-conll04-roberta-large": (32, 6e-2, 144, 80, 11, {"schedule": "exponential"}),
    "ptuning-ontonotes-roberta-large": (16, 7e-3, 48, 60, 14, {}),
}


def recipes() -> list[Recipe]:
    return [load_recipe(name) for name in recipe_names()]


def test_there_is_a_recipe_for_every_published_row() -> None:
    methods = [recipe.method for recipe in recipes()]
    assert {method: methods.count(method) for method in methods} == {"pasta": 2, "spt": 19, "ptuning": 15}


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_fits_the_dataclasses_and_names_what_exists(name: str) -> None:
    recipe = load_recipe(name)
    make_config(Cue.registry[recipe.method], "classify", recipe.settings)
    training = Training(**recipe.training)
    # of none of the published scripts
    assert training.warmup == training.decay == training.patience == training.tolerance == 0
    assert training.head_rate == 1.0  # one rate for all, in each of them
    kind = KINDS[recipe.task]
    assert preset(recipe.method, kind, 2_000, recipe.training) == training  # no preset reaches in
    assert set(preset_config(recipe.method, kind)) <= set(recipe.settings)
    assert split_settings(Cue.registry[recipe.method], {**recipe.settings, **recipe.training})
    assert HUB_ID.fullmatch(recipe.backbone)
    assert name.startswith(recipe.method) and name.endswith(recipe.backbone.partition("/")[2])
    assert (recipe.pooling is None) == (kind == "tag") and recipe.pooling in (None, *POOLINGS)
    assert (training.schedule == "exponential") == (kind == "tag" and recipe.method != "pasta")
    assert (recipe.pooling == "cls") == ("no pooler" in recipe.note)
    assert recipe.limit == (
        128
        if kind != "tag" or recipe.method == "pasta"
        else 152
        if name == "ptuning-conll03-roberta-large"
        else 512
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_has_the_published_numbers(name: str) -> None:
    recipe, (batch, rate, length, epochs, seed, special) = load_recipe(name), PUBLISHED[name]
    found = {**recipe.settings, **recipe.training}
    assert (found["batch"], found.get("length"), found["epochs"], recipe.seed) == (
        batch,
        length,
        epochs,
        seed,
    )
    assert math.isclose(found["rate"], rate)
    assert special.items() <= found.items()


def test_accumulated_gradients_are_one_larger_step_with_a_note() -> None:
    accumulated = [recipe for recipe in recipes() if "accumulated" in recipe.note]
    assert [(recipe.name, recipe.training["batch"]) for recipe in accumulated] == [
        ("spt-conll04-bert-base-uncased", 32),
        ("spt-rte-bert-base-cased", 32),
    ]


def test_the_two_wic_templates_are_two_tasks() -> None:
    tasks = {recipe.task: "template 0" in recipe.template for recipe in recipes() if "wic" in recipe.name}
    assert tasks == {"superglue/wic": False, "superglue/wic_question": True}


def test_what_the_user_gives_stands_over_the_recipe() -> None:
    found = train_arguments(
        "spt-rte-bert-base-cased", {"data": "mine", "seed": 0, "pooling": None, "settings": {"tau": 2.0}}
    )
    assert found["data"] == "mine" and found["seed"] == 0 and found["pooling"] == "pooler"
    assert found["settings"]["tau"] == 2.0 and found["settings"]["epochs"] == 50
    assert train_arguments("spt-rte-bert-base-cased", {})["data"] == "superglue/rte"


def test_without_a_recipe_only_what_the_user_gave_is_passed_on() -> None:
    assert train_arguments(None, {"data": "mine", "method": None, "limit": 64}) == {
        "data": "mine",
        "limit": 64,
        "settings": {},
    }
    with pytest.raises(RequestError, match="--recipe NAME"):
        train_arguments(None, {"data": None})


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("spt-rte", "spt-rte-bert-base-cased, spt-rte-bert-large-cased, spt-rte-roberta-large"),
        ("spt-rte-bert-base-case", "spt-rte-bert-base-cased"),
        ("???", "expected METHOD-TASK-BACKBONE, as in pasta-conll03-bert-large-cased"),
        ("../presets", "expected METHOD-TASK-BACKBONE"),
    ],
)
def test_an_unknown_recipe_is_refused_with_the_close_ones(name: str, told: str) -> None:
    with pytest.raises(RequestError, match=re.escape(told)):
        load_recipe(name)


def test_a_recipe_of_another_method_is_refused() -> None:
    with pytest.raises(RequestError, match="is for spt, but --method stp came"):
        train_arguments("spt-rte-roberta-large", {"method": "stp"})


def test_the_page_lists_every_recipe_with_its_numbers() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.+) \|$", PAGE, flags=re.MULTILINE))
    assert list(rows) == recipe_names()
    for recipe in recipes():
        cells = [cell.strip() for cell in rows[recipe.name].split("|")]
        length = recipe.settings.get("length", "-")
        assert cells[:4] == [
            recipe.task,
            str(recipe.training["batch"]),
            f"{recipe.training['rate']:g}",
            str(recipe.training["epochs"]),
        ]
        assert cells[4:6] == [str(length), str(recipe.seed)]
        assert cells[6] == (recipe.note or "-")


def test_a_recipe_runs_on_data_and_a_backbone_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, backbone = (
        write_rows(tmp_path / "rows", {"train": 40, "test": 6}),
        tiny_backbone(tmp_path / "backbone"),
    )
    flags = [
        "--recipe",
        "spt-wsc-roberta-large",
        "--backbone",
        backbone,
        "--set",
        "epochs=1",
        "--seed",
        7,
        "--out",
        tmp_path / "out",
    ]
    assert run_cli(monkeypatch, "train", data, *flags, "--json") == 0
    header = json.loads(capsys.readouterr().out)
    assert (header["method"], header["seed"], header["pooling"]) == ("spt", 7, "cls")
    assert (
        header["settings"]["length"] == 16
        and header["training"]["rate"] == 0.05
        and header["training"]["epochs"] == 1
    )
    assert run_cli(monkeypatch, "train", "--out", tmp_path / "other") == 2
    assert "no data came" in capsys.readouterr().err
