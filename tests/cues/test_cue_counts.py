"""How many numbers each method trains: the formula, the tensors and the papers' own figures
must be the same.
"""

from typing import Any

import pytest
import torch

from softcue.protocol import Cue, Dims
from tests.cues.cue_cases import BERT_BASE, BERT_LARGE, ROBERTA_BASE, ROBERTA_LARGE, SIZES, facts

TOTALS = {
    "bert-base-cased": 108_310_272,
    "bert-base-uncased": 109_482_240,
    "bert-large-cased": 333_579_264,
    "bert-large-uncased": 335_141_888,
    "roberta-base": 124_645_632,
    "roberta-large": 355_359_744,
}  # encoder and pooler, no language-model head
SINGLE, PAIR, DOUBLED_PAIR = ("cls", "sep"), ("cls", "sep", "sep"), ("cls", "sep", "sep", "sep")

GRID: list[tuple[str, dict[str, Any]]] = [
    ("pasta", {"slots": 2}),
    ("pasta", {"slots": 4}),
    ("pasta", {"slots": 4, "separators": "merged"}),
    ("pasta", {"slots": 4, "separators": "merged", "tokens": "sep"}),
    ("pasta", {"slots": 3, "tokens": "cls"}),
    ("pasta", {"slots": 3, "shared": True}),
    ("spt", {"length": 20}),
    ("ptuning", {"length": 20}),
    ("ptuning", {"length": 20, "mlp": 512}),
    ("apt", {"length": 20}),
    ("apt", {"length": 20, "bias": False}),
    ("apt", {"length": 20, "reads": "nothing"}),
    ("apt", {"length": 20, "token_gate": False}),
    ("apt", {"length": 20, "layer_gate": False}),
    ("gpc", {"length": 20}),
    ("gpc", {"length": 20, "shared": False, "bias": True, "norm": True}),
    ("gpc", {"length": 20, "combine": "gate", "init": "normal"}),
    ("prompt", {"length": 20}),
    ("prompt", {"length": 20, "enter": "layer"}),
    ("lora", {}),
    ("lora", {"rank": 4, "sites": ("query", "key", "value", "out", "up")}),
    ("bitfit", {}),
    ("probe", {}),
]


def config(method: str, **options: Any) -> Any:
    return Cue.registry[method].Config(**options)


def count(method: str, dims: Dims, **options: Any) -> int:
    return Cue.registry[method].count(dims, config(method, **options))


def stp(dims: Dims, roles: tuple[str, ...], doubled: bool = False, **options: Any) -> Any:
    cls = Cue.registry["stp"]
    return cls.settle(config("stp", **{"plan": "preset", **options}), facts(dims, roles, doubled=doubled))


def built(method: str, dims: Dims, settled: Any) -> int:
    with torch.device("meta"):
        cue = Cue.registry[method](dims, settled, 3)
    assert sum(parameter.numel() for parameter in cue.parameters()) % 3 == 0
    return sum(parameter.numel() for parameter in cue.parameters()) // 3


@pytest.mark.parametrize("size", SIZES)
def test_every_formula_is_the_number_of_parameters_of_the_cue(size: str) -> None:
    dims = SIZES[size]
    for method, options in GRID:
        settled = config(method, **options)
        assert built(method, dims, settled) == Cue.registry[method].count(dims, settled), (method, options)
    for roles, doubled in ((SINGLE, False), (PAIR, False), (DOUBLED_PAIR, True)):
        settled = stp(dims, roles, doubled)
        assert built("stp", dims, settled) == Cue.registry["stp"].count(dims, settled)


def test_the_grid_has_every_method() -> None:
    assert {method for method, _ in GRID} | {"stp"} == set(Cue.registry)


def test_every_formula_is_true_where_no_two_sizes_are_equal() -> None:
    dims = Dims(layers=5, hidden=24, heads=3, embed=14, ff=50, pooler=True)
    for method, options in GRID:
        settled = config(method, **options)
        assert built(method, dims, settled) == Cue.registry[method].count(dims, settled), (method, options)


@pytest.mark.parametrize(
    ("checkpoint", "dims", "shares"),
    [
        ("bert-base-cased", BERT_BASE, (0.0085, 0.0170, 0.0255, 0.0340)),
        ("bert-large-cased", BERT_LARGE, (0.0074, 0.0147, 0.0221, 0.0295)),
        ("bert-large-uncased", BERT_LARGE, (0.0073, 0.0147, 0.0220, 0.0293)),
        ("roberta-base", ROBERTA_BASE, (0.0074, 0.0148, 0.0222, 0.0296)),
        ("roberta-large", ROBERTA_LARGE, (0.0069, 0.0138, 0.0207, 0.0277)),
    ],
)
def test_pasta_is_the_published_share_of_each_checkpoint(
    checkpoint: str, dims: Dims, shares: tuple[float, ...]
) -> None:
    for slots, share in enumerate(shares, start=1):
        assert round(100 * count("pasta", dims, slots=slots) / TOTALS[checkpoint], 4) == share


def test_pasta_has_a_twentieth_of_the_numbers_of_ptuning_on_conll03() -> None:
    assert count("ptuning", BERT_LARGE, length=20) == 983_040
    assert count("pasta", BERT_LARGE, slots=2) == 49_152
    assert 983_040 / 49_152 == 20.0


@pytest.mark.parametrize(
    ("dims", "roles", "doubled", "numbers", "shares"),
    [
        (BERT_BASE, SINGLE, False, 9_984, {"bert-base-cased": 0.009, "bert-base-uncased": 0.009}),
        (BERT_BASE, PAIR, False, 12_288, {"bert-base-cased": 0.011, "bert-base-uncased": 0.011}),
        (ROBERTA_BASE, SINGLE, True, 13_824, {"roberta-base": 0.011}),
        (ROBERTA_BASE, DOUBLED_PAIR, True, 18_432, {"roberta-base": 0.015}),
    ],
)
def test_stp_presets_have_the_published_budget(
    dims: Dims, roles: tuple[str, ...], doubled: bool, numbers: int, shares: dict[str, float]
) -> None:
    assert Cue.registry["stp"].count(dims, stp(dims, roles, doubled)) == numbers
    for checkpoint, share in shares.items():
        assert round(100 * numbers / TOTALS[checkpoint], 3) == share


@pytest.mark.parametrize(
    ("dims", "checkpoint", "length", "numbers", "share"),
    [
        (BERT_LARGE, "bert-large-cased", 20, 983_040, 0.295),
        (BERT_LARGE, "bert-large-cased", 40, 1_966_080, 0.589),
        (BERT_LARGE, "bert-large-cased", 128, 6_291_456, 1.89),
        (BERT_BASE, "bert-base-cased", 8, 147_456, 0.136),
        (BERT_BASE, "bert-base-cased", 20, 368_640, 0.340),
    ],
)
def test_spt_has_the_documented_numbers_and_shares(
    dims: Dims, checkpoint: str, length: int, numbers: int, share: float
) -> None:
    assert count("spt", dims, length=length) == numbers
    assert 100 * numbers / TOTALS[checkpoint] == pytest.approx(share, abs=0.005 if share > 1 else 0.0005)


def test_apt_gpc_lora_bitfit_and_prompt_have_the_documented_numbers() -> None:
    assert count("apt", BERT_BASE, length=20) == 553_212
    assert count("apt", BERT_LARGE, length=20) == 1_475_064
    assert round(count("apt", BERT_BASE, length=20) / count("ptuning", BERT_BASE, length=20), 2) == 1.5
    assert count("gpc", BERT_BASE, length=20) - count("prompt", BERT_BASE, length=20) == 1_179_648
    assert count("gpc", BERT_LARGE, length=20) - count("prompt", BERT_LARGE, length=20) == 2_097_152
    assert count("prompt", BERT_BASE, length=20) == 15_360
    assert count("prompt", BERT_LARGE, length=20) == 20_480
    assert count("lora", BERT_BASE) == 294_912
    assert count("bitfit", BERT_BASE) == 102_912
    assert round(100 * count("bitfit", BERT_LARGE) / TOTALS["bert-large-cased"], 2) == 0.08
