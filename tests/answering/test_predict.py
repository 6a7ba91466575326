"""Predictor: any mix of adapters, kinds and methods in one forward answers as each alone, and
names what it refuses.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from softcue.adapter import OWN_ENCODER, Adapter, lift
from softcue.answering.predict import Predictor
from softcue.base import Base
from softcue.cues import Cue
from softcue.errors import AdapterError, RequestError, SoftcueError
from softcue.heads import Head
from softcue.protocol import Facts
from tests.contract.cases import METHODS, randomise
from tests.tiny_base import PEOPLE, PLACES, TOPICS, tiny_base

LABELS = {
    **dict.fromkeys(("classify", "multilabel"), ("bird", "fruit", "metal")),
    "tag": ("O", "B-LOC", "B-PER", "I-LOC", "I-PER"),
}
KINDS = (
    ("classify", False),
    ("classify", True),
    ("score", True),
    ("choice", False),
    ("tag", False),
    ("multilabel", True),
)
FAMILIES = ("bert", "roberta", "deberta-v3", "modernbert")
REQUESTS: dict[tuple[str, bool], dict[str, Any]] = {
    ("classify", False): {"text": "the apple and a very quiet owl"},
    ("classify", True): {"text": "gold", "text_pair": "iron on tin but not lead"},
    ("score", True): {"text": "apple pear plum in the lime", "text_pair": "zinc"},
    ("choice", False): {"text": "it is", "choices": ["fig", "gold on tin", "owl and crow"]},
    ("tag", False): {"text": "Alice was in paris, with bob."},
    ("multilabel", True): {"text": "gold on the apple", "text_pair": "owl"},
}


def random_adapter(
    base: Base, method: str, kind: str = "classify", pair: bool = False, seed: int = 0, **changes: Any
) -> Adapter:
    """An adapter that was never trained, with random numbers, so that nothing is equal by accident."""
    encoder, cls = base.backbone.encoder, Cue.registry[method]
    slots = base.text.slots(pair or kind == "choice")
    mass = torch.rand(encoder.dims.layers, len(slots), generator=torch.Generator().manual_seed(5))
    length = {"length": 3 + seed % 3} if "length" in {f.name for f in fields(cls.Config)} else {}
    config = cls.settle(
        cls.Config(**length), Facts(encoder.dims, slots, lambda: mass, base.text.slots(True).count("sep") > 2)
    )
    labels = changes.pop("labels", LABELS.get(kind, ())[: changes.pop("classes", 5)])
    cue = cls(encoder.dims, config)
    head = Head(kind, encoder.dims.hidden, [max(1, len(labels))], changes.get("pooling", "mean"))
    for number, part in enumerate((cue, head)):
        randomise(part, 10 * seed + number)
    numbers = dict(zip(("cue", "head"), lift(cue, 0, head, 0), strict=True))
    usual: dict[str, Any] = {
        "method": method,
        "config": config,
        "dims": encoder.dims,
        "backbone": base.backbone.name,
        "fingerprint": base.fingerprint,
        "kind": kind,
        "labels": labels,
        "pooling": "mean",
        "pair": pair,
        "limit": 40,
        "task": "random",
        "subset": None,
        "scores": {},
        "measured": "nothing",
        "seed": seed,
        "training": {},
    }
    return Adapter(**{**usual, **changes, **numbers})


@cache
def zoo(family: str) -> tuple[dict[str, Adapter], list[dict[str, Any]]]:
    """Adapters of every method and kind, of several lengths and label counts, and a request for each."""
    base, adapters, requests = tiny_base(family), {}, []
    for number, (method, (kind, pair)) in enumerate((m, k) for m in METHODS for k in KINDS):
        name = f"{method}/{kind}{'-pair' * pair}"
        pooling = ("mean", "cls")[number % 2]
        adapters[name] = random_adapter(
            base, method, kind, pair, seed=number, pooling=pooling, classes=2 + number % 4
        )
        requests.append({"adapter": name, **REQUESTS[kind, pair]})
    return adapters, requests


@cache
def alone(family: str) -> list[dict[str, Any]]:
    """Each request answered by a predictor that has its adapter and no other, in a forward of its own."""
    adapters, requests = zoo(family)
    return [Predictor(tiny_base(family), {r["adapter"]: adapters[r["adapter"]]})([r])[0] for r in requests]


@cache
def mixed(family: str) -> Predictor:
    return Predictor(tiny_base(family), zoo(family)[0])


def flat(answer: Any) -> tuple[list[float], list[Any]]:
    """The numbers of an answer, and all else that it says."""
    if isinstance(answer, float):
        return [answer], []
    if isinstance(answer, Mapping):
        parts = [flat(answer[key]) for key in sorted(answer)]
        return [n for numbers, _ in parts for n in numbers], [
            *sorted(answer),
            *(w for _, words in parts for w in words),
        ]
    if isinstance(answer, list):
        parts = [flat(part) for part in answer]
        return [n for numbers, _ in parts for n in numbers], [
            len(answer),
            *(w for _, words in parts for w in words),
        ]
    return [], [answer]


def same(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    (numbers, words), (their_numbers, their_words) = flat(ours), flat(theirs)
    assert words == their_words
    assert numbers == pytest.approx(their_numbers, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_every_method_and_kind_answers_as_each_adapter_alone(family: str) -> None:
    answers = mixed(family)(zoo(family)[1])
    assert len(answers) == len(METHODS) * len(KINDS)
    for request, ours, theirs in zip(zoo(family)[1], answers, alone(family), strict=True):
        try:
            same(ours, theirs)
        except AssertionError as error:
            raise AssertionError(f"{request['adapter']}: {error}") from error


def test_adapters_of_one_predictor_give_different_answers() -> None:
    scores = [answer["scores"] for answer in mixed("bert")(zoo("bert")[1]) if "label" in answer]
    assert len({round(max(s.values()), 4) for s in scores}) > len(scores) / 2


@given(
    st.lists(st.integers(0, len(METHODS) * len(KINDS) - 1), min_size=1, max_size=20),
    st.sampled_from([1, 30, 4096]),
)
@settings(max_examples=30, deadline=None)
def test_answers_depend_neither_on_order_nor_on_company_nor_on_the_row_budget(
    chosen: list[int], budget: int
) -> None:
    _, requests = zoo("bert")
    answers = mixed("bert")([requests[i] for i in chosen], budget)
    for i, ours in zip(chosen, answers, strict=True):
        same(ours, alone("bert")[i])


def test_a_text_of_many_windows_gets_a_tag_for_every_word_in_any_company() -> None:
    tokens = [*PEOPLE, "was", "in", *PLACES] * 20
    request = {"adapter": "lora/tag", "tokens": tokens}
    single = Predictor(tiny_base(), {"lora/tag": zoo("bert")[0]["lora/tag"]})([request])[0]
    company = mixed("bert")([zoo("bert")[1][0], request, zoo("bert")[1][-1]])[1]
    assert len(single["tags"]) == len(tokens)
    same(company, single)


def test_a_text_beyond_the_adapters_limit_is_cut_and_not_refused() -> None:
    long = "apple " * 60
    first, second = mixed("bert")(
        [{"adapter": "pasta/classify", "text": text} for text in (long, long + "gold")]
    )
    same(first, second)


def test_texts_read_ahead_in_parts_are_answered_in_order_and_refused_wherever_they_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = tiny_base("bert")
    predictor = Predictor(
        base, {"a": random_adapter(base, "pasta"), "b": random_adapter(base, "ptuning", seed=1)}
    )
    requests = [{"adapter": "ab"[i % 2], "text": " ".join(["owl"] * (1 + i % 5))} for i in range(11)]
    whole = predictor(requests)
    monkeypatch.setattr("softcue.answering.predict.AHEAD", 3)
    for one, other in zip(predictor(requests), whole, strict=True):
        assert one["label"] == other["label"] and one["score"] == pytest.approx(other["score"], abs=1e-5)
    with pytest.raises(RequestError, match="request 9 "):
        predictor([*requests[:9], {"adapter": "nobody", "text": "owl"}, requests[10]])


def test_one_adapter_may_serve_under_two_names() -> None:
    adapter = zoo("bert")[0]["spt/classify"]
    predictor = Predictor(tiny_base(), {"a": adapter, "b": adapter})
    first, second = predictor([{"adapter": name, "text": "the owl"} for name in "ab"])
    same(first, second)


def test_adapters_come_from_folders_too(tmp_path: Path) -> None:
    adapters, requests = zoo("bert")
    folders = {
        name: adapter.save(tmp_path / name) for name, adapter in adapters.items() if name.startswith("stp")
    }
    own = [(i, request) for i, request in enumerate(requests) if request["adapter"] in folders]
    for (i, _), ours in zip(
        own,
        Predictor(str(tiny_base().backbone.folder), folders, precision="float32")([r for _, r in own]),
        strict=True,
    ):
        same(ours, alone("bert")[i])


def test_nothing_asked_is_nothing_answered() -> None:
    assert mixed("bert")([]) == []
    assert Predictor(tiny_base(), {})([]) == []


def test_answering_leaves_the_adapters_numbers_alone() -> None:
    adapters, requests = zoo("bert")
    before = {name: {n: t.clone() for n, t in {**a.cue, **a.head}.items()} for name, a in adapters.items()}
    Predictor(tiny_base(), adapters)(requests)
    for name, adapter in adapters.items():
        assert all(torch.equal(t, before[name][n]) for n, t in {**adapter.cue, **adapter.head}.items())


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"adapter": "nope", "text": "a"}, "request 1 names the adapter 'nope'; this predictor has"),
        ({"text": "a"}, "request 1 names the adapter None; this predictor has"),
        ({"adapter": ["pasta/classify"], "text": "a"}, "request 1 names the adapter ['pasta/classify']"),
        ({"adapter": 3, "text": "a"}, "request 1 names the adapter 3"),
        ("apple", "request 1 is 'apple'; expected an object"),
        (None, "request 1 is None; expected an object"),
        (
            {"adapter": "pasta/classify"},
            "request 1 (adapter 'pasta/classify'): gives no input; expected text",
        ),
        (
            {"adapter": "pasta/classify-pair", "text": "a"},
            "request 1 (adapter 'pasta/classify-pair'): gives text; expected text and text_pair",
        ),
        (
            {"adapter": "gpc/tag", "tokens": [""], "where": "in.jsonl:7"},
            "in.jsonl:7 (adapter 'gpc/tag'): tokens is ['']; expected",
        ),
    ],
)
def test_a_bad_request_is_named_and_nothing_is_answered(request_: Any, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        mixed("bert")([{"adapter": "pasta/classify", "text": "fine"}, request_])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_answered_with_ten_known_ones_at_most() -> None:
    with pytest.raises(RequestError, match=r"\.\.\.$") as caught:
        mixed("bert")([{"adapter": "nope", "text": "a"}])
    assert str(caught.value).count("/") == 10


def test_other_weights_of_the_same_sizes_are_refused_with_both_fingerprints() -> None:
    other = tiny_base("bert", 1)
    adapter = random_adapter(tiny_base(), "pasta")
    with pytest.raises(AdapterError, match="the weights or the tokenizer differ") as caught:
        Predictor(other, {"fine": random_adapter(other, "pasta"), "foreign": adapter})
    assert "adapter 'foreign' was trained for" in str(caught.value)
    assert adapter.fingerprint[:12] in str(caught.value)
    assert other.fingerprint[:12] in str(caught.value)


def test_other_sizes_are_refused_with_the_sizes() -> None:
    base = tiny_base()
    adapter = random_adapter(base, "probe")
    larger = replace(adapter, dims=replace(base.backbone.encoder.dims, layers=12, hidden=768))
    with pytest.raises(AdapterError, match=r"\(12 layers, width 768\); this is .* \(3, 32\)"):
        Predictor(base, {"large": larger})
    with pytest.raises(AdapterError, match=r"\(pooler True\); this is .* \(pooler False\)"):
        Predictor(tiny_base("deberta-v3"), {"bert": random_adapter(base, "probe")})


def test_a_fine_tuned_checkpoint_is_refused_beside_adapters_of_the_encoder_that_it_began_as() -> None:
    base = tiny_base()
    tuned = random_adapter(base, "probe", tuned="full", backbone=OWN_ENCODER, fingerprint="0" * 64)
    with pytest.raises(AdapterError, match="'tuned' is the head of a fine-tuned checkpoint"):
        Predictor(base, {"pasta": random_adapter(base, "pasta"), "tuned": tuned})


def test_a_folder_that_holds_no_adapter_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SoftcueError, match="nowhere"):
        Predictor(tiny_base(), {"a": tmp_path / "nowhere"})


def test_the_label_sets_of_the_zoo_are_those_of_the_data() -> None:
    assert LABELS["classify"] == tuple(sorted(TOPICS))
