"""Rewrite the table under "What to choose" in README.md from what check_presets.py measured:
`python -m scripts.choosing`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.adapters import MINILM
from benchmarks.common import table
from scripts.check_presets import METHODS
from scripts.find_presets import HELD_BACK
from scripts.presets_evidence import shown
from scripts.presets_page import checked, score, short
from scripts.readme_table import rewritten
from softcue.cues import Cue
from softcue.protocol import Facts
from softcue.studies.compare import PROBE
from softcue.training.full import METHOD as FULL
from softcue.training.settings import preset_config

BEGIN = "<!-- choosing:begin, written by python -m scripts.choosing -->"
END = "<!-- choosing:end -->"
ROOT = Path(__file__).resolve().parent.parent
NAMES = {"classify": "labels", "tag": "tags"}


def kilobytes(method: str, kind: str) -> float:
    """What an adapter's cue takes in float32, with the preset of a kind; the head comes on top."""
    own = Cue.registry[method]
    facts = Facts(
        MINILM, ("cls", "sep"), lambda: torch.rand(MINILM.layers, 2)
    )  # STP's size is always the same
    return own.count(MINILM, own.settle(own.Config(**preset_config(method, kind)), facts)) * 4 / 1024


def held_back_of(results: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    """Results of the held-back sets of a kind."""
    return [result for result in results if short(result) in HELD_BACK[kind]]


def gain(results: Sequence[Mapping[str, Any]], method: str, other: str) -> list[tuple[str, float]]:
    """Points of score that a method is ahead of another, by data set."""
    return [
        (short(result), 100 * (score(result, method) - score(result, other)))
        for result in results
        if {method, other} <= set(result["table"])
    ]


def row(results: Sequence[Mapping[str, Any]], method: str) -> dict[str, Any]:
    """One method: its size, points over the probe and over full fine-tuning, and where it does worst."""
    own: dict[str, Any] = {"method": shown(method)}
    sizes = ["88,700"] if method == FULL else [f"{kilobytes(method, kind):,.0f}" for kind in NAMES]
    own["KB"] = " / ".join(dict.fromkeys(sizes))
    for kind, name in NAMES.items():
        there = held_back_of(results, kind)
        own[f"{name}, over probe"] = _points(gain(there, method, PROBE))
        own[f"{name}, over full"] = "" if method == FULL else _points(gain(there, method, FULL))
    below = [name for name, points in gain(results, method, PROBE) if points < 0]
    worst, points = min(gain(results, method, FULL), key=lambda one: one[1])
    found = [f"{points:+.1f} to full on {worst}"] if method != FULL else []
    own["where it loses"] = "; ".join([*found, *(f"below the probe on {name}" for name in below)])
    return own


def _points(gains: Sequence[tuple[str, float]]) -> str:
    return f"{mean(points for _, points in gains):+.1f}"


def block(results: Sequence[Mapping[str, Any]]) -> str:
    """The block between the marks."""
    methods = [method for method in METHODS if method != PROBE]
    return f"{BEGIN}\n\n{table([row(results, method) for method in methods])}\n\n{END}"


def main(root: Path = ROOT) -> None:
    """Rewrite the file in place."""
    readme = root / "README.md"
    text = rewritten(readme.read_text(encoding="utf-8"), block(checked()), BEGIN, END)
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
