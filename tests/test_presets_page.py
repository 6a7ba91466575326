"""The page on presets says of each method what was measured, and the shipped page is the one
that the script makes.
"""

from typing import Any

from scripts.check_presets import METHODS
from scripts.choosing import block, gain
from scripts.presets_page import ROOT, checked, held_back, page, verdicts


def result(name: str, rows: int = 1_800, **scores: float) -> dict[str, Any]:
    own = {**dict.fromkeys(("majority", *METHODS), 0.5), "full": 0.9, **scores}
    return {
        "data": f"glue/{name}",
        "metrics": ["accuracy"],
        "rows": {"train": rows, "selection": 200, "reported": 1_000},
        "machine": {"commit": "abc1234", "processor": "Some CPU", "torch": "2.13.0"},
        "table": {
            method: {"scores": {"accuracy": {"mean": score, "deviation": 0.0}}}
            for method, score in own.items()
        },
    }


def test_a_method_is_held_against_the_probe_on_each_set_that_can_be_learnt() -> None:
    told = verdicts(
        [result("cola", probe=0.6, pasta=0.7, stp=0.55), result("qqp", probe=0.6, pasta=0.65, stp=0.8)]
    )
    assert "pasta: +7.5 points relative to the probe on average, above it on each learnable set." in told
    said = (
        "stp (reconstruction): +7.5 points relative to the probe on average, not above it on cola, 2,000 rows"
    )
    assert f"{said}." in told


def test_a_set_that_full_fine_tuning_does_not_learn_counts_for_the_average_alone() -> None:
    told = verdicts([result("cola", full=0.54, pasta=0.4, probe=0.5), result("qqp", probe=0.6, pasta=0.9)])
    assert "majority): qqp, 2,000 rows." in told
    assert "pasta: +10.0 points relative to the probe on average, above it on each learnable set." in told
    assert "cola, 2,000 rows: the best" not in told


def test_the_best_of_three_is_held_against_full_fine_tuning() -> None:
    told = verdicts([result("cola", pasta=0.87, apt=0.881), result("qqp", spt=0.8), result("gum", spt=0.91)])
    assert (
        "cola, 2,000 rows: the best of PASTA, SPT and APT is apt, 1.9 points behind full fine-tuning." in told
    )
    assert (
        "qqp, 2,000 rows: the best of PASTA, SPT and APT is spt, 10.0 points behind full fine-tuning "
        "(more than the 2 that were wanted)." in told
    )
    assert (
        "gum, 2,000 rows: the best of PASTA, SPT and APT is spt, 1.0 points ahead of full fine-tuning."
        in told
    )


def test_of_the_three_those_that_are_measured_are_held_against_full_fine_tuning() -> None:
    part = result("cola", pasta=0.89)
    del part["table"]["apt"]
    told = (
        "cola, 2,000 rows: the best of PASTA, SPT and APT is pasta, 1.0 points behind full "
        "fine-tuning; apt is not measured yet."
    )
    assert told in verdicts([part])


def test_what_is_not_measured_yet_is_said_and_left_out_of_the_verdicts() -> None:
    part = result("gum")
    del part["table"]["full"]
    assert "| full | - | 0.9000 ± 0.0000 | - |" in held_back([part, result("cola")]).replace("  ", " ")
    assert "gum" not in verdicts([part, result("cola")])


def test_the_shipped_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "presets.md").read_text(encoding="utf-8") == page()


def test_the_readmes_guide_has_the_scripts_table() -> None:
    assert block(checked()) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_gain_is_in_points_and_only_of_sets_that_have_both() -> None:
    without = result("qqp", pasta=0.7)
    del without["table"]["probe"]
    assert gain([result("cola", pasta=0.75, probe=0.5), without], "pasta", "probe") == [("cola", 25.0)]
