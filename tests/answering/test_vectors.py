"""Vectors of texts, and candidates in order: from any mix of adapters, as each alone."""

import pytest
import torch

from softcue.answering.predict import Predictor
from softcue.answering.ranking import rank
from softcue.errors import RequestError
from tests.answering.test_predict import random_adapter
from tests.tiny_base import tiny_base

TEXTS = ["the apple and a very quiet owl", "alice was in paris", "gold"]


def test_a_vector_is_what_the_head_reads_whoever_shares_the_batch() -> None:
    base = tiny_base()
    adapters = {
        method: random_adapter(base, method, seed=seed, pooling=("mean", "cls")[seed % 2], classes=3)
        for seed, method in enumerate(("pasta", "spt", "lora", "probe"))
    }
    requests = [{"adapter": name, "text": text} for text in TEXTS for name in adapters]
    vectors = Predictor(base, adapters, kind="embed")(requests)
    answers = Predictor(base, adapters)(requests)
    for request, vector, answer in zip(requests, vectors, answers, strict=True):
        head = adapters[request["adapter"]].head
        embedding = torch.tensor(vector["embedding"])
        chances = (head["weight"] @ embedding + head["bias"]).softmax(0)
        assert chances.tolist() == pytest.approx(list(answer["scores"].values()), abs=1e-5)
        (alone,) = Predictor(base, {"it": adapters[request["adapter"]]}, kind="embed")(
            [{"adapter": "it", "text": request["text"]}]
        )
        assert vector["embedding"] == pytest.approx(alone["embedding"], abs=1e-5)


def test_what_has_no_vector_is_refused() -> None:
    base = tiny_base()
    predictor = Predictor(base, {"ner": random_adapter(base, "pasta", "tag")}, kind="embed")
    with pytest.raises(RequestError, match=r"'ner'.*words"):
        predictor([{"adapter": "ner", "text": TEXTS[0]}])
    with pytest.raises(RequestError, match="'vector'; expected 'embed'"):
        Predictor(base, {}, kind="vector")


def test_candidates_come_in_the_order_of_what_each_pair_is_given() -> None:
    base = tiny_base()
    adapters = {
        "rate": random_adapter(base, "pasta", "score", pair=True, seed=1),
        "pick": random_adapter(base, "spt", "choice", seed=2),
    }
    predictor = Predictor(base, adapters)
    asked = [
        {"adapter": name, "query": "who was it", "candidates": TEXTS} for name in ("rate", "pick", "rate")
    ]
    rated, picked, again = rank(predictor, asked)
    values = [
        predictor([{"adapter": "rate", "text": "who was it", "text_pair": text}])[0]["value"]
        for text in TEXTS
    ]
    (chosen,) = predictor([{"adapter": "pick", "text": "who was it", "choices": TEXTS}])
    for ranked, scores in ((rated, values), (picked, chosen["scores"]), (again, values)):
        assert [one["index"] for one in ranked] == sorted(range(3), key=lambda i: -scores[i])
        assert [one["score"] for one in ranked] == pytest.approx(sorted(scores, reverse=True), abs=1e-5)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"adapter": "spam", "query": "a", "candidates": ["b"]}, "scores pairs or chooses"),
        ({"adapter": "rate", "query": "a", "candidates": []}, "candidates"),
        ({"adapter": "rate", "query": "a", "candidates": "b"}, "candidates"),
        ({"adapter": "rate", "query": "a"}, "adapter, query, candidates"),
        ({"adapter": "none", "query": "a", "candidates": ["b"]}, "'none'"),
    ],
)
def test_what_cannot_be_ranked_is_refused(request_: dict[str, object], words: str) -> None:
    base = tiny_base()
    adapters = {
        "rate": random_adapter(base, "pasta", "score", pair=True),
        "spam": random_adapter(base, "pasta"),
    }
    with pytest.raises(RequestError, match=words):
        rank(Predictor(base, adapters), [request_])
