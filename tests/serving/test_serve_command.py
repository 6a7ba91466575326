"""`softcue serve`: started as a process, asked by Hugging Face's client, stopped."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from huggingface_hub import InferenceClient

from softcue.answering.predict import Predictor
from softcue.cli.serve import bytes_in
from softcue.errors import RequestError
from tests.answering.test_predict import random_adapter
from tests.cli.shell import Shell, make_place, make_shell
from tests.serving.fake import KINDS
from tests.serving.processes import Server, started
from tests.tiny_base import base_folder, tiny_base

__all__ = ["make_place", "make_shell"]

TEXT = "so alice was in paris with the apple"
METHODS = {"spam": "pasta", "rate": "spt", "pick": "stp", "ner": "apt"}
WIDE = {5: "lora", 77: "ptuning", 150: "gpc"}  # labels of further classifiers
TOKEN = "manager-" + "m" * 24


def serve(folder: Path, *more: str) -> list[str]:
    """The words of the command."""
    return [
        "-m",
        "softcue",
        "serve",
        str(folder),
        "--port",
        "0",
        "--backbone",
        str(base_folder()),
        "--precision",
        "float32",
        *more,
    ]


@pytest.fixture(name="folder", scope="module")
def make_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an adapter of each kind."""
    folder = tmp_path_factory.mktemp("adapters")
    for name, kind in KINDS.items():
        random_adapter(tiny_base(), METHODS[name], kind, classes=2 if name == "spam" else 5).save(
            folder / name
        )
    for count, method in WIDE.items():
        labels = tuple(f"intent {number}" for number in range(count))
        random_adapter(tiny_base(), method, labels=labels, seed=count).save(folder / f"wide{count}")
    return folder


@pytest.fixture(name="server", scope="module")
def start(folder: Path) -> Iterator[Server]:
    """A server over the folder."""
    with started(*serve(folder)) as server:
        yield server


def test_one_line_says_where_it_listens(server: Server) -> None:
    assert server.line.startswith("serving 7 adapters of ")
    assert server.line.rstrip().endswith(server.url)


def test_the_hub_client_classifies(server: Server, folder: Path) -> None:
    expected = Predictor(tiny_base(), {"spam": folder / "spam"})([{"adapter": "spam", "text": TEXT}])[0]
    for name in ("spam", "spam@1"):
        found = InferenceClient(base_url=f"{server.url}/models/{name}").text_classification(TEXT)
        assert {one.label: one.score for one in found} == pytest.approx(expected["scores"], abs=1e-5)
        top = InferenceClient(base_url=f"{server.url}/models/{name}").text_classification(TEXT, top_k=1)
        assert [one.label for one in top] == [expected["label"]]


def test_the_hub_client_tags(server: Server, folder: Path) -> None:
    expected = Predictor(tiny_base(), {"ner": folder / "ner"})([{"adapter": "ner", "text": TEXT}])[0]
    client = InferenceClient(base_url=f"{server.url}/models/ner")
    found = client.token_classification(TEXT, aggregation_strategy="simple")
    assert [(one.entity_group, one.start, one.end, one.word) for one in found] == [
        (one["entity_group"], one["start"], one["end"], one["word"]) for one in expected["entities"]
    ]
    assert found, "the random tagger finds something"
    assert all(TEXT[one.start : one.end] == one.word for one in found)


def test_one_batch_of_heads_of_any_width_and_kind_is_answered_as_alone(server: Server, folder: Path) -> None:
    names = ["wide150", "spam", "ner", "wide5", "rate", "wide77", "spam"]
    rows = [{"text": f"{TEXT} {number}"} for number in range(len(names))]
    answers = httpx.post(f"{server.url}/predict", json={"inputs": rows, "adapter": names}, timeout=20).json()
    predictor = Predictor(tiny_base(), {name: folder / name for name in names})
    for name, row, answer in zip(names, rows, answers, strict=True):
        alone = predictor([{"adapter": name, **row}])[0]
        if name == "ner":
            keys = ("start", "end", "score")
            expected = [[one[key] for key in keys] for one in alone["entities"]]
            assert [[one[key] for key in keys] for one in answer] == [
                pytest.approx(one, abs=1e-5) for one in expected
            ]
        elif name == "rate":
            assert answer[0]["score"] == pytest.approx(alone["value"], abs=1e-5)
        else:
            assert {one["label"]: one["score"] for one in answer} == pytest.approx(alone["scores"], abs=1e-5)


def test_a_text_that_would_be_cut_is_refused_where_the_request_says_so(server: Server) -> None:
    for inputs, adapter, status in (
        ("apple " * 5_000, "spam", 422),
        ("apple", "spam", 200),
        ("apple " * 500, "ner", 200),  # a tagger cuts nothing
    ):
        body = {"inputs": inputs, "adapter": adapter, "truncate": False}
        answer = httpx.post(f"{server.url}/predict", json=body, timeout=60)
        assert answer.status_code == status, answer.text
        assert status == 200 or "spam@1" in answer.json()["error"]


def test_one_batch_mixes_all_kinds(server: Server, folder: Path) -> None:
    inputs = [{"text": TEXT}, {"text": TEXT}, {"text": TEXT, "choices": ["fig", "gold"]}, {"text": TEXT}]
    body = {"inputs": inputs, "adapter": ["spam", "rate", "pick", "ner"]}
    answer = httpx.post(f"{server.url}/predict", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
    predictor = Predictor(tiny_base(), {name: folder / name for name in KINDS})
    alone = [
        predictor([{"adapter": name, **row}])[0]
        for name, row in zip(["spam", "rate", "pick", "ner"], inputs, strict=True)
    ]
    spam, rate, pick, ner = answer.json()
    assert {one["label"]: one["score"] for one in spam} == pytest.approx(alone[0]["scores"], abs=1e-5)
    assert rate[0]["score"] == pytest.approx(alone[1]["value"], abs=1e-5)
    assert {one["index"]: one["score"] for one in pick} == pytest.approx(
        dict(enumerate(alone[2]["scores"])), abs=1e-5
    )
    assert [one["word"] for one in ner] == [one["word"] for one in alone[3]["entities"]]


def test_unknown_adapters_are_never_answered_by_the_encoder_alone(server: Server) -> None:
    for name in ("nothing", "spam@7", "spam@prod"):
        answer = httpx.post(f"{server.url}/models/{name}", json={"inputs": TEXT}, timeout=20)
        assert (answer.status_code, answer.json()["error_type"]) == (404, "NotFound")


def test_huge_texts_are_cut_and_answered(server: Server) -> None:
    for name, times in (("spam", 90_000), ("ner", 2_000)):
        body = {"inputs": "the apple in paris " * times}
        answer = httpx.post(f"{server.url}/models/{name}", json=body, timeout=60)
        assert answer.status_code == 200, answer.text


def test_it_stops_on_sigterm_and_logs_json_without_texts(folder: Path) -> None:
    with started(*serve(folder)) as server:
        httpx.post(f"{server.url}/models/spam", json={"inputs": TEXT}, timeout=20)
        server.stop()
    assert server.process.returncode in (0, -15)
    lines = [json.loads(line) for line in server.errors]
    assert [line["path"] for line in lines if line["message"] == "request"] == ["/models/spam"]
    assert "apple" not in "".join(server.errors)


def test_tokens_from_a_file_are_asked_for(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with started(*serve(folder, "--manage-token-file", str(tmp_path / "token"))) as server:
        assert httpx.get(f"{server.url}/v1/adapters").status_code == 401
        allowed = {"Authorization": f"Bearer {TOKEN}"}
        assert httpx.get(f"{server.url}/v1/adapters", headers=allowed).status_code == 200
        client = InferenceClient(base_url=f"{server.url}/models/spam", token=TOKEN)
        assert client.text_classification(TEXT)
        server.stop()
    assert TOKEN not in "".join(server.errors) + server.line


@pytest.mark.slow
def test_the_first_answer_comes_within_five_seconds_of_the_command(folder: Path) -> None:
    def first_answer() -> float:
        began = time.monotonic()
        with started(*serve(folder)) as server:
            answer = httpx.post(f"{server.url}/models/spam", json={"inputs": TEXT}, timeout=20)
            assert answer.status_code == 200
            return time.monotonic() - began

    assert any(first_answer() < 5 for _ in range(3))


def test_mistakes_are_told_on_one_line(shell: Shell, place: Path) -> None:
    adapters, backbone = str(place / "adapters"), str(place / "backbone")
    assert "read-token-file" in shell.refused("serve", adapters, "--host", "0.0.0.0", "--backbone", backbone)
    assert "nothing" in shell.refused("serve", "nothing")
    assert "--memory" in shell.refused("serve", adapters, "--memory", "much")
    assert "no token" in shell.refused("serve", adapters, "--read-token-file", str(place / "empty.jsonl"))
    (place / "none").mkdir(exist_ok=True)
    assert "--backbone" in shell.refused("serve", str(place / "none"))


def test_memory_is_given_as_people_write_it() -> None:
    sizes = {"512M": 512 * 2**20, "2G": 2**31, "1.5GiB": 3 * 2**29, "100": 100, "8 kb": 8_192}
    assert {text: bytes_in(text) for text in sizes} == sizes
    for text in ("", "M", "-1G", "1T", "1e9"):
        with pytest.raises(RequestError, match="--memory"):
            bytes_in(text)
