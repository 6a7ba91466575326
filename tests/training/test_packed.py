"""Jobs that train packed in one loop come to what they come to one by one."""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest
import torch

from softcue.adapter import Adapter
from softcue.answering.evaluation import pack_items
from softcue.answering.seating import seat_adapters
from softcue.answering.served import reading_of
from softcue.protocol import Cue
from softcue.readers.items import make_items
from softcue.readers.records import Data
from softcue.training.job import Job, prepare
from softcue.training.jobs import train_jobs
from tests.contract.cases import METHODS
from tests.tiny_base import tiny_base, tiny_data
from tests.training.training_cases import RATES, calm, job, logits, train

PLANS = {  # of equal shape: three vectors each
    "stp": [
        {"plan": "explicit", "cls_layers": [0], "sep_layers": [1, 2]},
        {"plan": "explicit", "cls_layers": [1, 2], "sep_layers": [0]},
        {"plan": "explicit", "cls_layers": [2], "sep_layers": [0, 1]},
    ]
}


def eight(method: str) -> list[Job]:
    """Jobs of one shape and 50 steps that differ in all that seats of one loop may differ in;
    no dropout, one evaluation at the end.
    """
    few, score, tag = (
        tiny_data(kind, 50 * batch, dev=4, test=8)
        for kind, batch in (("classify", 4), ("score", 3), ("tag", 2))
    )
    more = tiny_data("classify", 300, dev=6, test=9)
    rows = {
        name: [record for record in records if record.label != "metal"]
        for name, records in more.splits.items()
    }
    two = replace(more, labels=("bird", "fruit"), name="two", splits=rows)  # 200 rows
    varied: list[tuple[Data, dict[str, Any]]] = [
        (few, {}),
        (few, {"clip": 0.1}),
        (few, {"decay": 0.1}),
        (few, {"warmup": 0.3, "head_rate": 0.3}),
        (two, {"schedule": "constant"}),
        (two, {"clip": 0.0}),
        (score, {"batch": 3}),
        (tag, {"batch": 2}),
    ]
    short = {"length": 4} if hasattr(Cue.registry[method].Config, "length") else {}
    jobs = []
    for seed, (data, changes) in enumerate(varied):
        training = {"epochs": 1, "batch": 4, "rate": RATES.get(method, 1e-2) * (seed + 1) / 8, **changes}
        one = job(data, method, seed, {**calm(method), **short, **own(method, seed)}, **training)
        jobs.append(replace(one, pooling="mean" if seed % 2 else None))
    return jobs


def own(method: str, number: int) -> dict[str, Any]:
    """Settings that seats of one cue may differ in, dropouts aside; other values for each number."""
    if method in PLANS:
        return PLANS[method][number % len(PLANS[method])]
    known = fields(Cue.registry[method].Config)
    return {
        f.name: f.default * (1 + number / 4)
        for f in known
        if f.metadata.get("per_seat") and "dropout" not in f.name
    }


@cache
def fifty_steps(method: str, precision: str, packed: bool) -> list[torch.Tensor]:
    """Every logit of each of the eight jobs, scored in float32 whatever they were trained in."""
    base, jobs = tiny_base(precision=precision), eight(method)
    assert len({prepare(one, base).shape for one in jobs}) == 1
    adapters = train_jobs(jobs, base) if packed else [train_jobs([one], base)[0] for one in jobs]
    assert [adapter.scores["selection_step"] for adapter in adapters] == [50] * 8
    return [raw(adapter, one.data) for adapter, one in zip(adapters, jobs, strict=True)]


@torch.inference_mode()
def raw(adapter: Adapter, data: Data) -> torch.Tensor:
    """The adapter's logits for the test rows, before any softmax, without the head's spare columns."""
    model = seat_adapters(tiny_base(), [adapter])
    items = make_items(data.splits["test"], tiny_base().text, reading_of(adapter))
    (part,) = model(pack_items(model, items, [0] * len(items))).parts
    return part.logits if part.logits.dim() == 1 else part.logits[:, : len(adapter.labels)]


@pytest.mark.parametrize("method", [name for name in METHODS if not Cue.registry[name].frozen_outputs])
def test_packed_equals_separate_after_fifty_steps(method: str) -> None:
    """Every logit of 8 jobs that differ in seed, rate, setting and more, to 1e-4 in float32."""
    packed, separate = (fifty_steps(method, "float32", packed) for packed in (True, False))
    for ours, theirs in zip(packed, separate, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert (packed[0] - packed[1]).abs().max() > 1e-2  # trained, and each in its own way


# of ten measured, one that packing moves little, and the one that it moves most
@pytest.mark.parametrize("method", ["pasta", "lora"])
def test_packed_bfloat16_is_as_near_to_float32_as_separate_bfloat16(method: str) -> None:
    """The noise is what bfloat16 does to the same jobs one by one: in a job of a high rate fifty times that
    of another, and there twenty times more or less by chance alone, so that the job in the middle speaks for
    all. Packed LoRA, PASTA and APT were measured at 1.0 to 1.1 times that noise from float32, and at most 0.4
    times from separate.
    """
    exact, packed, separate = (
        fifty_steps(method, *how) for how in (("float32", False), ("bfloat16", True), ("bfloat16", False))
    )
    noise = distance(separate, exact)
    assert 0 < noise < 0.5 * distance(exact[:1], exact[1:2])  # far less than one job differs from another
    assert distance(packed, exact) < 1.5 * noise
    assert distance(packed, separate) < 2.5 * noise


def distance(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> float:
    """Root mean square over a job's logits, and of these the median."""
    of_each = torch.stack([(a - b).square().mean().sqrt() for a, b in zip(ours, theirs, strict=True)])
    return float(of_each.median())


def test_choices_pack_with_pairs() -> None:
    jobs = [
        job(tiny_data("choice", train=20, dev=6, test=6), "pasta", 0, calm("pasta"), epochs=10, batch=8),
        job(
            tiny_data("classify", train=20, dev=6, test=6, pair=True),
            "pasta",
            1,
            calm("pasta"),
            epochs=10,
            batch=8,
        ),
    ]
    for one, ours in zip(jobs, train_jobs(jobs, tiny_base()), strict=True):
        for a, b in zip(logits(ours, one.data), logits(train(one), one.data), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_jobs_of_other_shapes_come_back_in_their_order() -> None:
    data = tiny_data("classify", train=8, dev=4, test=4)
    methods = ("pasta", "bitfit", "pasta", "ptuning")
    short = [
        Job(data, m, {"length": 4} if m == "ptuning" else {}, {"epochs": 1}, i) for i, m in enumerate(methods)
    ]
    assert [(a.method, a.seed) for a in train_jobs(short, tiny_base())] == list(
        zip(methods, range(4), strict=True)
    )
    assert train_jobs([], tiny_base()) == []


def test_jobs_that_differ_in_dropout_of_head_or_backbone_train_apart() -> None:
    data = tiny_data("classify", train=8)
    prepared = [
        prepare(job(data, **changes), tiny_base())
        for changes in ({}, {"head_dropout": 0.5}, {"backbone_dropout": True})
    ]
    assert len({one.shape for one in prepared}) == 3
    assert [one.head.dropout for one in prepared] == [0.0, 0.5, 0.0]
