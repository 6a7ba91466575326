"""The page on few examples says what was measured, and when the target is met."""

import json
from typing import Any

import pytest

from scripts.few_shot import PAGE, RESULTS, page, summary, verdict


def row(side: str, draw: int, accuracy: float, seconds: float, data: str = "sst2") -> dict[str, Any]:
    return {
        "data": data,
        "draw": draw,
        "side": side,
        "rows": 32,
        "tested": 300,
        "accuracy": accuracy,
        "seconds": seconds,
    }


def test_differences_and_times_are_of_draws_that_both_sides_have() -> None:
    rows = [
        row("setfit", 0, 0.70, 100.0),
        row("setfit", 1, 0.80, 50.0),
        row("probe", 0, 0.72, 1.0),
        row("probe", 1, 0.80, 1.0),
        row("probe", 2, 0.10, 9.0),
    ]
    rival, probe = summary(rows, "sst2")
    assert (rival["side"], rival["accuracy"]) == ("setfit", "0.750 ± 0.071")
    assert (probe["draws"], probe["to SetFit"], probe["x faster"]) == (3, "+1.0 ± 1.4", "75")


@pytest.mark.parametrize(
    ("accuracy", "seconds", "draws", "said"),
    [
        (0.7, 20.0, 10, "met; spt is +0.0"),
        (0.69, 20.0, 10, "not met; spt is -1.0"),
        (0.9, 20.0, 9, "open, 9 of 10 draws are done; spt is +20.0"),
        (0.9, 21.0, 10, "no method within the time"),
    ],
)
def test_the_target_is_met_by_a_method_that_is_level_within_the_time(
    accuracy: float, seconds: float, draws: int, said: str
) -> None:
    rows = [row("setfit", draw, 0.7, 100.0) for draw in range(draws)]
    assert said in verdict([*rows, *(row("spt", draw, accuracy, seconds) for draw in range(draws))], "sst2")


def test_a_rival_that_was_cut_short_is_said_so() -> None:
    rows = [row("setfit", 0, 0.7, 100.0, "clinc150"), row("probe", 0, 0.8, 1.0, "clinc150")]
    assert "100 steps only" in verdict(rows, "clinc150")


def test_the_page_is_what_the_file_says() -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert PAGE.read_text(encoding="utf-8") == page(found), "python -m scripts.few_shot"
