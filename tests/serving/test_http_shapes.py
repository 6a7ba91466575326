"""HTTP's shapes: what the clients of TEI, Hugging Face, vLLM and KServe ask and get."""

import math
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.answering.test_predict import random_adapter
from tests.serving.fake import (
    FakeService,
    MemorySource,
    fault_of,
    make_client,
    make_service,
    make_source,
)

__all__ = ["make_client", "make_service", "make_source"]

FRUIT = "the apple and a fig"


def post(client: TestClient, path: str, body: dict[str, Any]) -> Any:
    """The answer's value."""
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def alone(service: FakeService, name: str, **inputs: Any) -> dict[str, Any]:
    """What the adapter answers without HTTP."""
    return service._answers([{"adapter": name, **inputs}])[0].value


def test_one_text_gets_a_flat_list_best_first(client: TestClient, service: FakeService) -> None:
    scores = alone(service, "spam", text=FRUIT)["scores"]
    answer = post(client, "/predict", {"inputs": FRUIT, "adapter": "spam"})
    assert {one["label"]: one["score"] for one in answer} == pytest.approx(scores, abs=1e-6)
    assert [one["score"] for one in answer] == sorted(scores.values(), reverse=True)
    assert answer == post(client, "/predict", {"inputs": [FRUIT], "adapter": "spam"})


def test_a_flat_list_of_two_texts_is_a_pair(client: TestClient, service: FakeService) -> None:
    scores = alone(service, "pair", text="gold", text_pair="iron")["scores"]
    answer = post(client, "/predict", {"inputs": ["gold", "iron"], "adapter": "pair"})
    assert {one["label"]: one["score"] for one in answer} == pytest.approx(scores, abs=1e-6)


def test_a_batch_gets_a_list_of_lists_and_may_mix_adapters(client: TestClient) -> None:
    names = ["spam", "pair", "ner", "rate", "pick"]
    rows = [
        [FRUIT],
        ["gold", "iron"],
        ["alice was in paris"],
        {"text": "apple pear"},
        {"text": "it", "choices": ["fig", "gold"]},
    ]
    answers = post(client, "/predict", {"inputs": rows, "adapter": names})
    for name, row, answer in zip(names, rows, answers, strict=True):
        assert answer == post(client, "/predict", {"inputs": [row], "adapter": [name]})[0]
    assert {one["label"] for one in answers[4]} == {"fig", "gold"}
    assert answers[3][0]["label"] == "value"
    assert len(post(client, "/predict", {"inputs": [["a"]], "adapter": "spam"})) == 1


def test_choices_are_named_by_their_texts_under_a_column_that_the_adapter_remembers(
    client: TestClient, service: FakeService
) -> None:
    chooser = random_adapter(service.predictor.base, "pasta", "choice", columns={"choices": "options"})
    service.source.add("column", chooser)
    asked = {"inputs": {"text": "it", "options": ["fig", "gold"]}, "adapter": "column"}
    answer = post(client, "/predict", asked)
    assert {one["label"] for one in answer} == {"fig", "gold"}
    assert [one["label"] for one in post(client, "/", asked)[0]] == [one["label"] for one in answer]


def test_raw_scores_are_logits_but_for_a_constant(client: TestClient) -> None:
    asked = {"inputs": FRUIT, "adapter": "spam"}
    plain = post(client, "/predict", asked)
    raw = post(client, "/predict", {**asked, "raw_scores": True, "truncate": True})
    assert [one["label"] for one in raw] == [one["label"] for one in plain]
    assert [math.exp(one["score"]) for one in raw] == pytest.approx([one["score"] for one in plain])


def test_one_text_for_several_adapters_names_the_versions_that_answered(
    client: TestClient, service: FakeService
) -> None:
    names = ["ner", "spam@1", "rate", "spam"]
    results = post(client, "/predict", {"inputs": FRUIT, "adapters": names})["results"]
    assert [one["adapter"] for one in results] == ["ner@1", "spam@1", "rate@1", "spam@1"]
    assert [one["kind"] for one in results] == ["tag", "classify", "score", "classify"]
    assert results[1]["scores"] == pytest.approx(alone(service, "spam", text=FRUIT)["scores"], abs=1e-5)
    assert "entities" in results[0]
    assert "value" in results[2]


def test_given_tokens_get_their_tags_back(client: TestClient) -> None:
    asked = {"inputs": {"tokens": ["alice", "in", "paris"]}, "adapters": ["ner"]}
    assert len(post(client, "/predict", asked)["results"][0]["tags"]) == 3


def test_the_only_adapter_need_not_be_named(client: TestClient, source: MemorySource) -> None:
    assert "several" in fault_of(client.post("/predict", json={"inputs": FRUIT}), 422)
    for name in ("pair", "ner", "rate", "pick"):
        source.remove(name)
    assert len(post(client, "/predict", {"inputs": FRUIT})) == 3
    assert len(post(client, "/", {"inputs": FRUIT})[0]) == 3
    source.remove("spam")
    assert "none" in fault_of(client.post("/predict", json={"inputs": FRUIT}), 422)


@pytest.mark.parametrize("path", ["/models/spam", "/models/spam@1", "/models/spam%401", "/"])
def test_hugging_face_classification_is_nested(client: TestClient, path: str) -> None:
    named = {"adapter": "spam"} if path == "/" else {}
    flat = post(client, "/predict", {"inputs": FRUIT, "adapter": "spam"})
    assert post(client, path, {"inputs": FRUIT, **named}) == [flat]
    assert post(client, path, {"inputs": [FRUIT], **named}) == [flat]
    batch = post(client, path, {"inputs": [FRUIT, "gold"], **named})
    assert [one["label"] for one in batch[0]] == [one["label"] for one in flat]
    assert len(batch) == 2
    top = post(client, path, {"inputs": FRUIT, "parameters": {"top_k": 1}, **named})
    assert top == [flat[:1]]


def test_hugging_face_functions_are_softmax_and_none(client: TestClient) -> None:
    def ask(function: str) -> Any:
        return client.post(
            "/models/spam", json={"inputs": FRUIT, "parameters": {"function_to_apply": function}}
        )

    softmax, none = ask("softmax").json()[0], ask("none").json()[0]
    assert [math.exp(one["score"]) for one in none] == pytest.approx([one["score"] for one in softmax])
    assert "exclude each other" in fault_of(ask("sigmoid"), 422)


def test_hugging_face_tagging_is_flat_for_one_text(client: TestClient, service: FakeService) -> None:
    text = "so alice was in paris"
    entities = alone(service, "ner", text=text)["entities"]
    assert entities, "the random tagger finds something"
    found = post(client, "/models/ner", {"inputs": text})
    assert [one["word"] for one in found] == [one["word"] for one in entities]
    assert all(text[one["start"] : one["end"]] == one["word"] for one in found)
    assert post(client, "/models/ner", {"inputs": [text]}) == [found]
    kinds = sorted({one["entity_group"] for one in found})
    asked = {"inputs": text, "parameters": {"aggregation_strategy": "simple", "ignore_labels": kinds}}
    assert post(client, "/models/ner", asked) == []
    words = post(client, "/models/ner", {"inputs": text, "parameters": {"aggregation_strategy": "none"}})
    assert {one["entity"][2:] for one in words} == set(kinds)
    assert all(text[one["start"] : one["end"]] == one["word"] and " " not in one["word"] for one in words)


def test_vllm_classification_names_the_model_and_counts_tokens(client: TestClient) -> None:
    answer = post(client, "/classify", {"model": "spam@1", "input": [FRUIT, "gold"], "user": "someone"})
    assert (answer["object"], answer["model"]) == ("list", "spam@1")
    assert [one["index"] for one in answer["data"]] == [0, 1]
    for one in answer["data"]:
        assert one["num_classes"] == len(one["probs"]) == 3
        assert sum(one["probs"]) == pytest.approx(1)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] == 14
    assert len(post(client, "/classify", {"model": "spam", "input": FRUIT})["data"]) == 1
    assert "/predict" in fault_of(client.post("/classify", json={"model": "ner", "input": FRUIT}), 422)


def tensor(name: str, *texts: str) -> dict[str, Any]:
    """A tensor of texts."""
    return {"name": name, "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}


def test_kserve_inference_gives_labels_and_probabilities(client: TestClient) -> None:
    body = {"id": "7", "inputs": [tensor("text", FRUIT, "gold")]}
    answer = post(client, "/v2/models/spam/infer", body)
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", "spam", "1")
    label, chances, labels = answer["outputs"]
    assert label["shape"] == [2]
    assert chances["shape"] == [2, 3]
    for row in range(2):
        own = dict(zip(labels["data"], chances["data"][3 * row : 3 * row + 3], strict=True))
        assert max(own, key=own.__getitem__) == label["data"][row]
    pair = post(client, "/v2/models/pair/infer", {"inputs": [tensor("text", "a"), tensor("text_pair", "b")]})
    assert pair["outputs"][0]["shape"] == [1]
    assert "id" not in pair
    assert post(client, "/v2/models/rate/infer", body)["outputs"][0]["datatype"] == "FP32"
    assert post(client, "/v2/models/ner/infer", body)["outputs"][0]["name"] == "entities"
    choice = client.post("/v2/models/pick/infer", json=body)
    assert fault_of(choice, 422)


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [tensor("text_pair", "a")],
        [tensor("text", "a"), tensor("text", "b")],
        [tensor("text", "a"), tensor("text_pair", "b", "c")],
        [{**tensor("text", "a"), "shape": [2]}],
        [{**tensor("text", "a"), "datatype": "FP32"}],
    ],
)
def test_kserve_tensors_that_do_not_fit_are_refused(client: TestClient, inputs: list[Any]) -> None:
    fault_of(client.post("/v2/models/spam/infer", json={"inputs": inputs}), 422)


def test_kserve_says_what_a_model_is(client: TestClient) -> None:
    facts = client.get("/v2/models/spam").json()
    assert facts["name"] == "spam"
    assert [one["name"] for one in facts["outputs"]] == ["label", "probabilities", "labels"]
    assert client.get("/v2/models/spam@1/ready").json() == {"name": "spam", "ready": True}
    fault_of(client.get("/v2/models/spam@9/ready"), 404)
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


def test_adapters_are_listed_by_the_page(client: TestClient) -> None:
    names, after = [], ""
    while after is not None:
        page = client.get("/v1/adapters", params={"after": after, "limit": 2}).json()
        assert page["count"] == 5
        assert len(page["adapters"]) <= 2
        names += [one["name"] for one in page["adapters"]]
        after = page["next"]
    assert names == ["ner", "pair", "pick", "rate", "spam"]
    found = client.get("/v1/adapters", params={"search": "pa"}).json()["adapters"]
    assert [one["full_name"] for one in found] == ["pair@1", "spam@1"]
    models = client.get("/v1/models", params={"limit": 2}).json()
    assert [one["id"] for one in models["data"]] == ["ner", "pair"]
    assert models["has_more"]
    assert client.get("/v1/adapters/spam").json() == found[1]
    for limit in ("0", "1001", "x", "-1", "", "1.0"):
        fault_of(client.get("/v1/adapters", params={"limit": limit}), 422)


def test_what_the_server_is_can_be_asked(client: TestClient) -> None:
    assert client.get("/health").json() == client.get("/ping").json() == {"status": "ok"}
    info = client.get("/info").json()
    assert (info["model_id"], info["adapters"], info["max_client_batch_size"]) == ("tiny", 5, 16)
    post(client, "/predict", {"inputs": [[FRUIT]] * 3, "adapter": "spam"})
    client.post("/models/nothing", json={"inputs": FRUIT})
    text = client.get("/metrics").text
    assert 'softcue_answers_total{kind="classify",method="pasta"} 3.0' in text
    assert 'softcue_requests_total{route="/models/{adapter}",status="404",verb="POST"} 1.0' in text
    assert "softcue_service_queue_rows 0.0" in text
    assert "softcue_tokens_total 21.0" in text
    assert "nothing" not in text


def test_the_document_lists_every_route_and_its_page_needs_nothing(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/predict", "/models/{adapter}", "/classify", "/v1/models", "/", "/metrics"} <= set(paths)
    page = client.get("/docs")
    assert all(path in page.text for path in paths)
    assert "<script" not in page.text
    assert "http" not in page.text.replace("http-", "")
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_page_comes_from_here_alone(client: TestClient) -> None:
    for path, media in (("/", "text/html"), ("/page.js", "text/javascript"), ("/icon.svg", "image/svg+xml")):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(media)
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert answer.headers["x-content-type-options"] == "nosniff"
    fault_of(client.get("/page.py"), 404)
