"""What a sweep tries: grids, ranges and draws say what was meant, and refuse the rest by name."""

import math
from pathlib import Path
from typing import Any

import pytest

from softcue.errors import RequestError
from softcue.studies.space import (
    Point,
    Range,
    check_points,
    grid_points,
    random_points,
    read_grid,
    read_ranges,
    usual_rates,
)
from softcue.studies.sweep import sweep
from softcue.training.settings import preset
from tests.tiny_base import tiny_base, tiny_data


def test_a_grid_is_read_as_numbers_words_and_lists() -> None:
    given = [
        "lr=1e-3,5e-3",
        "length=8,16",
        "plan=preset,measured",
        "cls_layers=[1,2],[3]",
        "shift=true,false",
    ]
    expected = {
        "rate": [1e-3, 5e-3],
        "length": [8, 16],
        "plan": ["preset", "measured"],
        "cls_layers": [[1, 2], [3]],
        "shift": [True, False],
    }
    assert read_grid(given) == expected


def test_a_value_given_twice_is_tried_once() -> None:
    assert read_grid(["rate=1e-3,0.001,2e-3"]) == {"rate": [1e-3, 2e-3]}


@pytest.mark.parametrize("given", [["rate"], ["=1,2"], ["rate="], ["rate=1", "lr=2"]])
def test_a_grid_that_says_nothing_or_too_much_is_refused(given: list[str]) -> None:
    with pytest.raises(RequestError, match="--grid"):
        read_grid(given)


@pytest.mark.parametrize(
    "given",
    ["rate", "rate=1..", "rate=..1", "rate=a..b", "rate=2..1", "length=4", "rate=true..2", "rate=1..inf"],
)
def test_a_range_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(RequestError, match="--range"):
        read_ranges([given])


def test_a_rate_cannot_be_drawn_from_zero() -> None:
    with pytest.raises(RequestError, match="logarithm"):
        read_ranges(["lr=0..1"])


def test_rates_are_drawn_by_their_logarithm_whole_numbers_evenly_and_all_within_their_range() -> None:
    ranges = read_ranges(["rate=1e-4..1e-1", "length=2..9", "dropout=0.0..0.5"])
    points = random_points(["ptuning"], {}, ranges, 600, {})
    rates = [point.settings["rate"] for point in points]
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)
    assert abs(sum(map(math.log10, rates)) / len(rates) + 2.5) < 0.1  # the middle of -4 and -1
    assert {point.settings["length"] for point in points} == set(range(2, 10))
    assert all(type(point.settings["length"]) is int for point in points)
    assert abs(sum(point.settings["dropout"] for point in points) / len(points) - 0.25) < 0.02


def test_more_draws_begin_with_the_same_ones_and_another_range_leaves_them_alone() -> None:
    ranges = read_ranges(["rate=1e-3..1e-1"])
    few, many = random_points(["apt"], {}, ranges, 3, {}), random_points(["apt"], {}, ranges, 8, {})
    assert many[:3] == few
    both = random_points(["apt"], {"length": [4, 8]}, ranges, 3, {})
    assert [point.settings["rate"] for point in both] == [point.settings["rate"] for point in few]


def test_a_method_gets_only_what_it_has_and_no_point_twice() -> None:
    points = grid_points(["apt", "pasta"], {"rate": [1e-3, 1e-2], "length": [4, 8]}, {"epochs": 3})
    assert len([point for point in points if point.method == "apt"]) == 4
    pasta = [point for point in points if point.method == "pasta"]
    assert [point.settings for point in pasta] == [{"epochs": 3, "rate": 1e-3}, {"epochs": 3, "rate": 1e-2}]
    assert len(random_points(["pasta"], {"rate": [1e-3, 1e-2]}, {}, 50, {})) == 2


def test_a_setting_that_no_method_has_is_refused_with_those_that_exist() -> None:
    with pytest.raises(
        RequestError, match=r"none of apt, pasta has a setting lenght; their own settings are .*length.*rate"
    ):
        grid_points(["apt", "pasta"], {"lenght": [4]}, {})
    with pytest.raises(RequestError, match="grid and as a range"):
        random_points(["apt"], {"rate": [1.0]}, {"rate": Range(1, 2)}, 3, {})


@pytest.mark.parametrize(
    ("method", "settings"),
    [("apt", {"length": 0}), ("apt", {"rate": -1.0}), ("apt", {"batch": "x"}), ("nope", {})],
)
def test_a_point_that_cannot_be_is_refused_before_anything_is_trained(
    method: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(RequestError):
        check_points([Point(method, settings)], "classify")


def test_usual_rates_lie_around_the_preset() -> None:
    rates, usual = usual_rates("pasta", "classify", 2_000), preset("pasta", "classify", 2_000, {}).rate
    assert usual in rates
    assert rates == sorted(rates)
    assert rates[0] < usual / 5 < 5 * usual < rates[-1]


def test_a_point_reads_as_it_would_be_typed() -> None:
    assert (
        str(Point("apt", {"rate": 1e-3, "length": 8, "plan": "preset", "shift": True}))
        == "apt rate=0.001 length=8 plan=preset shift=true"
    )
    assert Point("apt", {"rate": 1.0, "length": 8}).key == Point("apt", {"length": 8, "rate": 1.0}).key


def test_a_rate_that_is_set_is_the_one_that_is_tried(tmp_path: Path) -> None:
    """It was dropped where no grid came: the usual rates were tried instead."""
    result = sweep(
        [tiny_data()], ["pasta"], tmp_path, backbone=tiny_base(), settings={"rate": 0.007, "epochs": 1}
    ).to_json()
    assert [run["rate"] for run in result["runs"]] == [0.007]
