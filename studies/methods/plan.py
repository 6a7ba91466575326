"""The cells of the study, the most useful first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from softcue.cues import Cue
from softcue.protocol import Dims

MINILM, MPNET = "minilm", "mpnet"
ROWS = 2_000  # training rows, at most
SEEDS = 3
CORE = (
    "glue/sst2",
    "glue/mrpc",
    "glue/rte",
    "glue/stsb",
    "superglue/cb",
    "copa_mc",
    "conll04",
    "wnut17",
)
BASE = ("glue/cola", "conll2003", "glue/mrpc", "glue/sst2")
FEW = ("glue/sst2", "glue/mrpc", "conll04")  # what is also learnt from a few examples
SHOTS = (16, 32)  # examples a class
MAJORITY = "majority"


@dataclass(frozen=True)
class Arm:
    """A method with settings other than its preset's, or with none."""

    method: str
    settings: Mapping[str, Any]
    random_layers: bool = False  # as many layers as the method would choose, drawn by the seed


# The shipped methods, the ones that a reader asks for first in front
METHODS = (
    MAJORITY,
    "probe",
    "pasta",
    "spt",
    "apt",
    "lora",
    "full",
    "stp",
    "ptuning",
    "gpc",
    "prompt",
    "bitfit",
)
BASE_METHODS = "probe", "pasta", "spt", "apt", "lora", "full", "stp", "ptuning", "gpc"
# What the papers say of a method's own parts
VARIANTS = {
    "pasta-no-cls": Arm("pasta", {"tokens": "sep"}),
    "pasta-no-sep": Arm("pasta", {"tokens": "cls"}),
    "pasta-shared": Arm("pasta", {"shared": True}),
    "stp-random": Arm("stp", {"plan": "explicit"}, random_layers=True),
    "spt-no-diversity": Arm("spt", {"diversity": 0.0}),
    "gpc-tanh": Arm("gpc", {"combine": "tanh"}),
    "gpc-gate": Arm("gpc", {"combine": "gate", "init": "normal"}),
    "gpc-initial": Arm("gpc", {"memory": "initial"}),
    "gpc-per-layer": Arm("gpc", {"shared": False}),
    "apt-no-token-gate": Arm("apt", {"token_gate": False}),
    "apt-no-layer-scale": Arm("apt", {"layer_gate": False}),
}
ARMS = {**{method: Arm(method, {}) for method in METHODS}, **VARIANTS}


@dataclass(frozen=True)
class PlannedCell:
    """One adapter of the study: what it is trained on, how, and with which seed."""

    encoder: str
    data: str
    arm: str
    seed: int
    shots: int | None = None  # examples a class; None: ROWS rows at most

    @property
    def budget(self) -> str:
        """The training rows, in a word."""
        return f"{ROWS}-rows" if self.shots is None else f"{self.shots}-a-class"

    @property
    def name(self) -> str:
        """What its file is called, below the folder of results, and what --only takes."""
        return f"{self.encoder}/{self.data.replace('/', '-')}/{self.budget}/{self.arm}-{self.seed}"


def planned_cells() -> list[PlannedCell]:
    """Return all cells of the study, each once, the most useful first."""
    return list(dict.fromkeys(_in_order()))


def _in_order() -> Iterator[PlannedCell]:
    for seed in range(SEEDS):
        yield from (PlannedCell(MINILM, data, arm, seed) for arm in METHODS for data in CORE)
        base = BASE if seed == 0 else BASE[:2]  # longer texts take over an hour a cell: one seed
        yield from (PlannedCell(MPNET, data, arm, seed) for data in base for arm in BASE_METHODS)
    for seed in range(SEEDS):
        yield from (PlannedCell(MINILM, data, arm, seed) for arm in VARIANTS for data in CORE)
        for shots in SHOTS:
            for data in FEW:
                yield from (PlannedCell(MINILM, data, arm, seed, shots) for arm in METHODS)


def grade_of(arm: str) -> str:
    """Return how far a method is a reconstruction, in words; "" where it is none."""
    return Cue.registry[arm].grade if arm in Cue.registry else ""  # majority and full are no cues


def random_layers(dims: Dims, sizes: Sequence[int], seed: int) -> dict[str, list[int]]:
    """Draw the layers that prompt [CLS] and those that prompt separators.

    sizes: how many of each. Returns settings of STP's explicit plan, layers counted from 0.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = [sorted(torch.randperm(dims.layers, generator=generator)[:size].tolist()) for size in sizes]
    return {"cls_layers": drawn[0], "sep_layers": drawn[1]}
