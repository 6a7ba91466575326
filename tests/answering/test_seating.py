"""Adapters come and go while a predictor runs: as if all had been there from the start, and
without a trace on the others.
"""

import time
from dataclasses import replace
from typing import Any

import pytest
import torch

from softcue.adapter import Adapter
from softcue.answering.predict import Predictor
from softcue.answering.seating import Seating
from softcue.errors import AdapterError, RequestError
from tests.answering.test_predict import random_adapter, same, zoo
from tests.tiny_base import tiny_base

TEXT = "the apple and a very quiet owl"


def asked(predictor: Predictor, *names: str) -> list[dict[str, Any]]:
    return predictor([{"adapter": name, "text": TEXT} for name in names])


def five(method: str = "pasta") -> dict[str, Adapter]:
    return {f"{method}-{seed}": random_adapter(tiny_base(), method, seed=seed) for seed in range(5)}


@pytest.mark.parametrize("family", ["bert", "deberta-v3"])
def test_added_one_by_one_they_answer_as_if_all_had_been_there(family: str) -> None:
    adapters, requests = zoo(family)
    one_by_one = Predictor(tiny_base(family), {})
    for name, adapter in adapters.items():
        one_by_one.add(name, adapter)
    same(one_by_one(requests), Predictor(tiny_base(family), adapters)(requests))


def test_the_numbers_of_a_seat_are_lifted_as_they_came() -> None:
    seating = Seating(tiny_base().backbone.encoder)
    adapters = [*five().values(), *five("lora").values(), random_adapter(tiny_base(), "stp", "tag", seed=7)]
    seats = [seating.add(adapter) for adapter in adapters]
    assert seats == list(range(len(adapters)))
    for seat, adapter in zip(seats, adapters, strict=True):
        cue, head = seating.lift(seat)
        assert all(torch.equal(cue[name], adapter.cue[name]) for name in adapter.cue)
        assert all(torch.equal(head[name], adapter.head[name]) for name in adapter.head)


def test_removing_and_adding_again_leaves_every_other_answer_as_it_was() -> None:
    adapters = five() | five("ptuning") | five("gpc")
    predictor = Predictor(tiny_base(), adapters)
    others = [name for name in adapters if name != "pasta-2"]
    before, own = asked(predictor, *others), asked(predictor, "pasta-2")
    predictor.remove("pasta-2")
    assert asked(predictor, *others) == before
    with pytest.raises(RequestError, match="names the adapter 'pasta-2'"):
        asked(predictor, "pasta-2")
    predictor.add("pasta-2", adapters["pasta-2"])
    assert asked(predictor, *others) == before
    assert asked(predictor, "pasta-2") == own


def test_a_seat_that_was_given_up_goes_to_the_next() -> None:
    predictor = Predictor(tiny_base(), five())
    predictor.remove("pasta-1")
    predictor.remove("pasta-3")
    for number in range(20):
        predictor.add(f"new-{number}", random_adapter(tiny_base(), "pasta", seed=50 + number))
        predictor.remove(f"new-{number}")
    assert len(predictor.model.places) == 5
    assert {slab.size for slab in predictor.seating.cues.values()} == {5}


def test_a_name_that_is_known_answers_for_the_new_adapter() -> None:
    adapters = five()
    predictor, other = Predictor(tiny_base(), adapters), random_adapter(tiny_base(), "spt", seed=9)
    others = asked(predictor, "pasta-0", "pasta-4")
    predictor.add("pasta-2", other)
    assert asked(predictor, "pasta-0", "pasta-4") == others
    (answer,) = asked(predictor, "pasta-2")
    same(answer, Predictor(tiny_base(), {"pasta-2": other})([{"adapter": "pasta-2", "text": TEXT}])[0])


def test_an_adapter_that_does_not_fit_changes_nothing() -> None:
    adapters = five()
    predictor = Predictor(tiny_base(), adapters)
    before = asked(predictor, *adapters)
    wrong = replace(adapters["pasta-0"], cue={"delta": torch.zeros(1, 2, 3)})
    for name in ("pasta-0", "fresh"):
        with pytest.raises(AdapterError, match="the adapter's cue has"):
            predictor.add(name, wrong)
    assert asked(predictor, *adapters) == before
    assert list(predictor.adapters) == list(adapters)
    with pytest.raises(RequestError, match="no adapter of that name"):
        predictor.remove("fresh")


def test_more_labels_than_the_head_had_room_for_are_answered() -> None:
    few = random_adapter(tiny_base(), "pasta", classes=2, seed=1)
    predictor = Predictor(tiny_base(), {"few": few})
    before = asked(predictor, "few")
    predictor.add("more", random_adapter(tiny_base(), "pasta", classes=3, seed=2))
    few_answer, more_answer = asked(predictor, "few", "more")
    same(few_answer, before[0])
    assert len(few_answer["scores"]) == 2 and len(more_answer["scores"]) == 3


def test_the_thousandth_adapter_is_added_in_the_time_of_the_tenth() -> None:
    """Medians of a few, between two doublings."""
    adapter, predictor = random_adapter(tiny_base(), "pasta"), Predictor(tiny_base(), {})
    seconds = []
    for number in range(1_000):
        began = time.perf_counter()
        predictor.add(str(number), adapter)
        seconds.append(time.perf_counter() - began)
    early, late = (sorted(seconds[at : at + 5])[2] for at in (9, 995))
    assert late < 2 * early, (early, late)
