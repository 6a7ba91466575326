"""Training settings: presets, overrides, and refusals that name what is wrong."""

from dataclasses import fields
from typing import Any

import pytest

import softcue.cues  # noqa: F401  (fills the registry)
from softcue.errors import RequestError
from softcue.protocol import Cue
from softcue.training.settings import Training, preset, split_settings


@pytest.mark.parametrize("method", [*sorted(Cue.registry), "full", "a-method-of-a-plugin"])
def test_every_method_has_a_preset_that_is_sound(method: str) -> None:
    few, many = preset(method, "classify", 10, {}), preset(method, "classify", 1_000_000, {})
    assert few.epochs > many.epochs >= 1
    assert few.rate > 0 < many.rate


def test_full_fine_tuning_has_a_rate_of_its_own() -> None:
    assert preset("full", "classify", 1000, {}).rate < 1e-3 < preset("pasta", "classify", 1000, {}).rate


def test_what_the_user_says_wins_over_the_preset() -> None:
    training = preset("pasta", "classify", 1000, {"epochs": 3, "rate": 0.5, "schedule": "constant"})
    assert (training.epochs, training.rate, training.schedule) == (3, 0.5, "constant")
    assert training.batch == preset("pasta", "classify", 1000, {}).batch


def test_a_preset_is_the_same_each_time_it_is_read() -> None:
    assert preset("spt", "classify", 500, {}) == preset("spt", "classify", 500, {})


@pytest.mark.parametrize("rows", [0, 1])
def test_a_data_set_of_almost_nothing_still_has_epochs(rows: int) -> None:
    assert preset("pasta", "classify", rows, {}).epochs >= 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", True),
        ("batch", 0),
        ("batch", "many"),
        ("rate", 0.0),
        ("rate", -1e-3),
        ("rate", float("nan")),
        ("rate", float("inf")),
        ("head_rate", -0.1),
        ("warmup", 1.0),
        ("warmup", -0.1),
        ("decay", -1.0),
        ("clip", -1.0),
        ("schedule", "cosine"),
        ("schedule", None),
        ("patience", -1),
        ("tolerance", -1.0),
        ("backbone_dropout", "no"),
        ("head_dropout", 1.0),
        ("rate", [1e-3]),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=f"{field} is .* expected"):
        preset("pasta", "classify", 100, {field: value})


def test_an_unknown_setting_is_refused_with_those_that_exist() -> None:
    with pytest.raises(RequestError, match=r"no learning_rate; they have .*rate"):
        preset("pasta", "classify", 100, {"learning_rate": 1e-3})


def test_settings_are_told_apart() -> None:
    own, training = split_settings(Cue.registry["ptuning"], {"length": 5, "epochs": 2})
    assert (own, training) == ({"length": 5}, {"epochs": 2})


def test_a_setting_of_neither_is_refused_with_both_lists() -> None:
    with pytest.raises(
        RequestError, match=r"ptuning has no setting lenght; its own settings are .*length.*epochs"
    ):
        split_settings(Cue.registry["ptuning"], {"lenght": 5})
    with pytest.raises(
        RequestError, match="full fine-tuning has no setting length; its own settings are none"
    ):
        split_settings(None, {"length": 5})


def test_no_method_has_a_setting_of_the_name_of_a_training_setting() -> None:
    """`--set NAME=VALUE` goes to one of them by name."""
    shared = {f.name for f in fields(Training)}
    for method, cue in Cue.registry.items():
        assert not shared & {f.name for f in fields(cue.Config)}, method
