"""Several labels for one text in the shapes of other servers."""

import math

import pytest
from starlette.testclient import TestClient

from tests.answering.test_predict import random_adapter
from tests.serving.fake import FakeService, MemorySource, fault_of, make_client, make_service, make_source
from tests.serving.test_http_shapes import FRUIT, post, tensor
from tests.tiny_base import tiny_base

__all__ = ["make_client", "make_service", "make_source"]  # fixtures


@pytest.fixture(autouse=True)
def topics(source: MemorySource) -> None:
    adapter = random_adapter(tiny_base(), "pasta", "multilabel", seed=4, threshold=0.4)
    source.add("topics", adapter)


def test_every_label_comes_with_its_own_score_best_first(client: TestClient, service: FakeService) -> None:
    (alone,) = service._answers([{"adapter": "topics", "text": FRUIT}])
    flat = post(client, "/predict", {"inputs": FRUIT, "adapter": "topics"})
    assert {one["label"]: one["score"] for one in flat} == pytest.approx(alone.value["scores"], abs=1e-6)
    assert [one["score"] for one in flat] == sorted(alone.value["scores"].values(), reverse=True)
    raw = post(client, "/predict", {"inputs": FRUIT, "adapter": "topics", "raw_scores": True})
    back = [1 / (1 + math.exp(-one["score"])) for one in raw]
    assert back == pytest.approx([one["score"] for one in flat])
    (result,) = post(client, "/predict", {"inputs": FRUIT, "adapters": ["topics"]})["results"]
    assert result["labels"] == [label for label, p in result["scores"].items() if p >= 0.4]


def test_hugging_face_functions_are_sigmoid_and_none(client: TestClient) -> None:
    def ask(function: str) -> dict[str, object]:
        return {"inputs": FRUIT, "parameters": {"function_to_apply": function}}

    flat = post(client, "/predict", {"inputs": FRUIT, "adapter": "topics"})
    assert post(client, "/models/topics", {"inputs": FRUIT}) == [flat]
    assert post(client, "/models/topics", ask("sigmoid")) == [flat]
    none = post(client, "/models/topics", ask("none"))[0]
    assert [one["label"] for one in none] == [one["label"] for one in flat]
    refused = fault_of(client.post("/models/topics", json=ask("softmax")), 422)
    assert "do not exclude each other" in refused


def test_vllm_has_no_shape_and_kserve_tells_what_is_chosen(client: TestClient) -> None:
    refused = fault_of(client.post("/classify", json={"model": "topics", "input": FRUIT}), 422)
    assert "kind multilabel" in refused
    body = {"inputs": [tensor("text", FRUIT, "gold")]}
    chances, labels, chosen = post(client, "/v2/models/topics/infer", body)["outputs"]
    assert (chances["shape"], labels["shape"], chosen["shape"]) == ([2, 3], [3], [2, 3])
    assert chosen["datatype"] == "BOOL"
    assert chosen["data"] == [chance >= 0.4 for chance in chances["data"]]
