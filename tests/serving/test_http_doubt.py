"""A server of an adapter of the hub whose answers may be unsure: every route says so in its own shape."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from softcue.serving.access import gather_access
from softcue.serving.opening import ServerSettings, open_server
from tests.answering.test_predict import random_adapter
from tests.interop.hub_stand import HubRepository, HubStand, make_hub
from tests.serving.fake import client_of
from tests.serving.test_http_shapes import FRUIT, post, tensor
from tests.tiny_base import base_folder, tiny_base

__all__ = ["make_hub"]


def served(kind: str, below: float, hub: HubStand) -> Iterator[TestClient]:
    """A client of a server that was started with the name of a repository."""
    adapter = replace(random_adapter(tiny_base(), "pasta", kind), unsure_below=below)
    hub.repositories["me/mine"] = HubRepository()
    files = adapter.to_files("a test")
    hub.repositories["me/mine"].put(**{name.replace(".", "__"): data for name, data in files.items()})
    settings = ServerSettings(
        folder=Path("hf:me/mine"),
        backbone=str(base_folder()),
        precision="float32",
        device="cpu",
        memory=2**20,
        batch_rows=256,
        delay=0.0,
        queue=16,
        deadline=30.0,
        pinned=("mine",),
        plugins=(),
    )
    with client_of(open_server(settings, gather_access(None, None, {})).app) as client:
        yield client


@pytest.mark.parametrize(("below", "unsure"), [(1.0, True), (0.01, False)])
def test_every_route_says_whether_a_label_is_unsure(hub: HubStand, below: float, unsure: bool) -> None:
    for client in served("classify", below, hub):
        first, *others = post(client, "/predict", {"inputs": FRUIT, "adapter": "mine"})
        assert first["unsure"] is unsure and all("unsure" not in other for other in others)
        assert post(client, "/models/mine", {"inputs": FRUIT})[0][0] == first
        (result,) = post(client, "/predict", {"inputs": FRUIT, "adapters": ["mine"]})["results"]
        assert result["unsure"] is unsure and result["label"] == first["label"]
        (row,) = post(client, "/classify", {"model": "mine", "input": FRUIT})["data"]
        assert row["unsure"] is unsure
        outputs = post(client, "/v2/models/mine/infer", {"inputs": [tensor("text", FRUIT, "gold")]})[
            "outputs"
        ]
        told = outputs[-1]
        assert (told["name"], told["datatype"], told["shape"]) == ("unsure", "BOOL", [2])
        assert told["data"] == [unsure, unsure]


def test_every_route_says_whether_an_entity_is_unsure(hub: HubStand) -> None:
    for client in served("tag", 1.0, hub):
        text = "alice was in rome with bob and carol by the apple"
        entities = post(client, "/predict", {"inputs": text, "adapter": "mine"})
        assert entities and all(entity["unsure"] for entity in entities)
        words = {"inputs": text, "parameters": {"aggregation_strategy": "none"}}
        assert all(word["unsure"] for word in post(client, "/models/mine", words))


def test_an_adapter_without_doubt_answers_in_the_plain_shapes(hub: HubStand) -> None:
    for client in served("classify", 0.0, hub):
        assert set(post(client, "/predict", {"inputs": FRUIT, "adapter": "mine"})[0]) == {"label", "score"}
        outputs = post(client, "/v2/models/mine/infer", {"inputs": [tensor("text", FRUIT)]})["outputs"]
        assert [one["name"] for one in outputs] == ["label", "probabilities", "labels"]
