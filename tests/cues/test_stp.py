"""STP's plans: which layers are chosen, which special token takes which vector, and how seats
with different plans share a cue.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch

from softcue.errors import RequestError
from softcue.protocol import Cue, Dims
from tests.cues.cue_cases import (
    BERT_BASE,
    DOUBLED,
    PAIR,
    ROBERTA_BASE,
    SINGLE,
    TOTALS,
    Counted,
    Own,
    build,
    case,
    close,
    facts,
    forward,
    texts,
)

PRESET = {"plan": "preset"}
OWN = Own(
    small={"plan": "explicit", "place": ((0, 1, 1), (-1, 2, -1), (-1, -1, -1))},
    counted=[
        Counted(PRESET, {"bert-base": 9_984, "bert-large": 26_624}, SINGLE),
        Counted(PRESET, {"bert-base": 12_288, "bert-large": 32_768}, PAIR),
        Counted(PRESET, {"roberta-base": 13_824, "roberta-large": 36_864}, SINGLE, doubled=True),
        Counted(PRESET, {"roberta-base": 18_432, "roberta-large": 49_152}, DOUBLED, doubled=True),
    ],
    refused=[
        ({"plan": "explicit"}, "expected cls_layers or sep_layers"),
        ({"cls_layers": (1,)}, "set plan='explicit'"),
        ({"place": ((0, 2), (-1, -1))}, "without gaps"),
    ],
)
SMALL = replace(BERT_BASE, layers=4)


def settle(dims: Any, roles: tuple[str, ...], mass: Any = None, doubled: bool = False, **options: Any) -> Any:
    cls = Cue.registry["stp"]
    table = None if mass is None else torch.tensor(mass)
    return cls.settle(cls.Config(**options), facts(dims, roles, table, doubled))


def test_the_preset_prompts_the_layers_that_attend_most_in_clarks_curves() -> None:
    bert = settle(BERT_BASE, PAIR, plan="preset")
    assert (bert.cls_layers, bert.sep_layers) == ((0, 1, 2, 3, 4, 5, 6, 7, 9, 10), (5, 7, 8))
    roberta = settle(ROBERTA_BASE, DOUBLED, plan="preset")
    assert (roberta.cls_layers, roberta.sep_layers) == (tuple(range(12)), (4, 5, 6, 7, 8, 9))


@pytest.mark.parametrize(("layers", "cls", "sep"), [(24, 20, 6), (6, 5, 2), (3, 2, 1), (1, 1, 1)])
def test_presets_scale_with_depth_and_keep_at_least_one_layer(layers: int, cls: int, sep: int) -> None:
    settled = settle(replace(BERT_BASE, layers=layers), PAIR, plan="preset")
    assert (len(settled.cls_layers), len(settled.sep_layers)) == (cls, sep)


def test_the_measured_plan_ranks_layers_by_the_tasks_own_attention() -> None:
    mass = [[0.1, 0.0, 0.3], [0.4, 0.1, 0.1], [0.2, 0.3, 0.3], [0.3, 0.2, 0.0]]
    settled = settle(SMALL, PAIR, mass, cls_budget=2, sep_budget=1)
    assert (settled.cls_layers, settled.sep_layers) == ((1, 3), (2,))
    assert settled.place == ((-1, -1, -1), (0, -1, -1), (-1, 1, 2), (3, -1, -1))


def test_the_partition_gives_each_layer_to_what_it_attends_to_more() -> None:
    mass = [[0.5, 0.1, 0.3], [0.4, 0.3, 0.3], [0.0, 0.1, 0.0], [0.3, 0.0, 0.1]]
    settled = settle(SMALL, PAIR, mass, plan="partition")
    assert (settled.cls_layers, settled.sep_layers) == ((0, 3), (1, 2))


@pytest.mark.parametrize(
    ("roles", "options", "row"),
    [
        (DOUBLED, {"separators": "all"}, (0, 1, 2, 3)),
        (DOUBLED, {"separators": "merge"}, (0, 1, 1, 2)),
        (DOUBLED, {"separators": "ends"}, (0, 1, -1, 2)),
        (DOUBLED, {"separators": "ends", "sep_shared": True}, (0, 1, -1, 1)),
        (DOUBLED, {"separators": "all", "sep_shared": True}, (0, 1, 1, 1)),
        (PAIR, {"separators": "merge"}, (0, 1, 2)),
        (PAIR, {"separators": "ends"}, (0, 1, 2)),
        (SINGLE, {"separators": "merge"}, (0, 1)),
    ],
)
def test_separators_take_the_vectors_that_the_mode_says(
    roles: tuple[str, ...], options: dict, row: tuple[int, ...]
) -> None:
    settled = settle(SMALL, roles, plan="explicit", cls_layers=(1,), sep_layers=(1,), **options)
    assert settled.place == ((-1,) * len(roles), row, (-1,) * len(roles), (-1,) * len(roles))


def test_settling_twice_changes_nothing() -> None:
    settled = settle(SMALL, PAIR, plan="preset")
    assert Cue.registry["stp"].settle(settled, facts(SMALL, PAIR)) is settled


def test_layers_that_the_encoder_lacks_are_refused() -> None:
    with pytest.raises(RequestError, match=r"layers \[4, 9\] were asked for; this encoder has layers 0 to 3"):
        settle(SMALL, PAIR, plan="explicit", cls_layers=(1, 9, 4))
    with pytest.raises(RequestError, match="the plan is for 4 layers; this encoder has 12"):
        Cue.registry["stp"](BERT_BASE, settle(SMALL, PAIR, plan="preset"))
    with pytest.raises(RequestError, match="no vectors"):
        settle(SMALL, PAIR, plan="preset", cls_budget=0, sep_budget=0)


def test_a_place_of_other_layers_or_special_tokens_is_refused() -> None:
    with pytest.raises(RequestError, match="place has 4 layers of 3 special tokens; expected 4 of 4"):
        Cue.registry["stp"].settle(settle(SMALL, PAIR, plan="preset"), facts(SMALL, DOUBLED))
    with pytest.raises(RequestError, match="place has 1 layers of 1 special tokens; expected 4 of 3"):
        settle(SMALL, PAIR, place=((0,),))


def test_plans_with_as_many_vectors_share_a_cue_and_each_seat_follows_its_own() -> None:
    _, encoder = case("bert")
    cls = Cue.registry["stp"]
    plans = [
        ((0, 1, 1), (-1, 2, -1), (-1, -1, -1)),
        ((-1, -1, -1), (0, -1, -1), (1, -1, 2)),
        ((0, 1, 2), (-1, -1, -1), (-1, -1, -1)),
    ]
    configs = [cls.Config(plan="explicit", place=place, dropout=0.1 * i) for i, place in enumerate(plans)]
    assert len({cls.shape(config) for config in configs}) == 1
    assert cls.shape(cls.Config(plan="explicit", place=((0, 1, 1), (-1,) * 3, (-1,) * 3))) != cls.shape(
        configs[0]
    )
    shared = build("stp", encoder, place=cls.shape(configs[0]).place)
    for seat, config in enumerate(configs):
        shared.configure(seat, config)
    for seat, config in enumerate(configs):
        own = cls(encoder.dims, config, 1).eval()
        with torch.no_grad():
            own.delta.copy_(shared.delta[seat : seat + 1])
        close(
            forward(encoder, shared, texts("bert"), [seat] * 5),
            forward(encoder, own, texts("bert"), [0] * 5),
            0.0,
        )
        assert cls.count(encoder.dims, config) == own.delta[0].numel()


def test_no_gradient_is_computed_below_the_lowest_layer_of_the_plan() -> None:
    _, encoder = case("bert")
    cue = build("stp", encoder, plan="explicit", place=((-1, -1, -1), (-1, -1, -1), (0, 1, 2)))
    below = []
    for layer in encoder.layers[:2]:
        layer.register_forward_hook(lambda module, args, out: below.append(out.requires_grad))
    outputs = forward(encoder, cue, texts("bert"), [0] * 5)
    assert below == [False, False]
    assert outputs[0].requires_grad


def test_a_measured_plan_of_the_same_size_differs_from_the_preset_where_the_task_does() -> None:
    mass = torch.zeros(12, 3)
    mass[11, 1:] = 0.4
    settled = settle(BERT_BASE, PAIR, mass.tolist(), cls_budget=1, sep_budget=1)
    assert settled.sep_layers == (11,)
    assert settle(BERT_BASE, PAIR, plan="preset", cls_budget=1, sep_budget=1).sep_layers == (7,)


@pytest.mark.parametrize(
    ("dims", "roles", "doubled", "numbers", "shares"),
    [
        (BERT_BASE, SINGLE, False, 9_984, {"bert-base-cased": 0.009, "bert-base-uncased": 0.009}),
        (BERT_BASE, PAIR, False, 12_288, {"bert-base-cased": 0.011, "bert-base-uncased": 0.011}),
        (ROBERTA_BASE, SINGLE, True, 13_824, {"roberta-base": 0.011}),
        (ROBERTA_BASE, DOUBLED, True, 18_432, {"roberta-base": 0.015}),
    ],
)
def test_stp_presets_have_the_published_budget(
    dims: Dims, roles: tuple[str, ...], doubled: bool, numbers: int, shares: dict[str, float]
) -> None:
    assert Cue.registry["stp"].count(dims, settle(dims, roles, doubled=doubled, plan="preset")) == numbers
    for checkpoint, share in shares.items():
        assert round(100 * numbers / TOTALS[checkpoint], 3) == share


def test_unsettled_stp_is_refused_rather_than_guessed() -> None:
    _, encoder = case("bert")
    cls = Cue.registry["stp"]
    with pytest.raises(RequestError, match="not known"):
        cls(encoder.dims, cls.Config())
    with pytest.raises(RequestError, match="not known"):
        cls.count(encoder.dims, cls.Config())
