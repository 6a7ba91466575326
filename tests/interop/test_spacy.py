"""spaCy: a component sets entities and categories as a predictor answers, in batches, from a config."""

import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from softcue.answering.predict import Predictor
from softcue.errors import AdapterError, RequestError
from tests.answering.test_predict import random_adapter
from tests.tiny_base import base_folder, tiny_base

spacy: Any = pytest.importorskip("spacy")
# as the entry point does it, where softcue is not installed anew
component_module: Any = pytest.importorskip("softcue.interop.spacy")
TEXTS = ["Alice was in paris, with bob.", "", "dave-carol in rome", " \n ", "the apple"]


@pytest.fixture(name="place", scope="module")
def make_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with an adapter of each kind."""
    place = tmp_path_factory.mktemp("spacy")
    for kind in ("classify", "multilabel", "tag", "score", "choice"):
        random_adapter(tiny_base(), "pasta", kind).save(place / kind)
    random_adapter(tiny_base(), "pasta", pair=True).save(place / "pair")
    return place


def config(place: Path, **more: Any) -> dict[str, Any]:
    return {"adapter": str(place), "backbone": str(base_folder()), "precision": "float32", **more}


def answers(place: Path, texts: list[str]) -> list[dict[str, Any]]:
    predictor = Predictor(tiny_base(), {"one": place})
    return predictor([{"adapter": "one", "text": text} for text in texts])


def test_the_entry_point_names_the_factory() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    [(name, value)] = project["entry-points"]["spacy_factories"].items()
    assert EntryPoint(name, value, "spacy_factories").load() is component_module.make_component
    assert name in spacy.blank("en").factory_names


def test_a_taggers_entities_are_those_of_a_predictor(place: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("softcue", config=config(place / "tag"))
    said = [text for text in TEXTS if text.strip()]
    for doc, answer in zip(nlp.pipe(said), answers(place / "tag", said), strict=True):
        assert answer["entities"]
        for entity in answer["entities"]:
            span = next(span for span in doc.ents if span.start_char <= entity["start"] < span.end_char)
            assert span.end_char >= entity["end"] or span.label_ != entity["entity_group"]
        labels = {entity["entity_group"] for entity in answer["entities"]}
        assert {span.label_ for span in doc.ents} <= labels


@pytest.mark.parametrize("kind", ["classify", "multilabel"])
def test_a_classifiers_chances_are_the_categories(place: Path, kind: str) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("softcue", config=config(place / kind))
    doc = nlp("the apple")
    [answer] = answers(place / kind, ["the apple"])
    assert doc.cats == pytest.approx(answer["scores"], abs=1e-6)


def test_batches_answer_as_one_document_at_a_time_and_empty_ones_pass(place: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("softcue", config=config(place / "tag"))
    texts = [*TEXTS, "\u200b", "\u00a0"]
    together = list(nlp.pipe(texts, batch_size=2))
    assert [doc.text for doc in together] == texts
    for doc, text in zip(together, texts, strict=True):
        assert [(e.text, e.label_) for e in doc.ents] == [(e.text, e.label_) for e in nlp(text).ents]
    assert not together[1].ents and not together[3].ents


def test_one_batch_is_one_call_of_the_predictor(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("softcue", config=config(place / "classify"))
    calls: list[int] = []
    real = Predictor.__call__

    def counting(self: Predictor, requests: Any) -> Any:
        calls.append(len(requests))
        return real(self, requests)

    monkeypatch.setattr(Predictor, "__call__", counting)
    list(nlp.pipe(["the apple"] * 7, batch_size=3))
    assert calls == [3, 3, 1]


def test_a_config_goes_to_disk_and_back(place: Path, tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("softcue", name="intent", config=config(place / "classify"))
    nlp.add_pipe("softcue", name="names", config=config(place / "tag", alignment_mode="contract"))
    nlp.to_disk(tmp_path / "pipeline")
    again = spacy.load(tmp_path / "pipeline")
    doc, other = again(TEXTS[0]), nlp(TEXTS[0])
    assert doc.cats == other.cats and doc.cats
    assert [str(e) for e in doc.ents] == [str(e) for e in other.ents]


def tokenized(nlp: Any, *words: str) -> Any:
    return spacy.tokens.Doc(nlp.vocab, words=list(words), spaces=[False] * len(words))


@pytest.mark.parametrize("mode", ["strict", "contract", "expand"])
def test_spans_that_fit_no_tokens_are_expanded_or_told_of(place: Path, mode: str) -> None:
    nlp = spacy.blank("en")
    component = nlp.add_pipe("softcue", config=config(place / "tag", alignment_mode=mode))
    doc = tokenized(nlp, "xaliceyy", "z")
    entity = {"start": 1, "end": 6, "word": "alice", "entity_group": "PER", "score": 1.0}
    if mode == "expand":
        component._set(doc, {"entities": [entity]})
        assert [(span.text, span.label_) for span in doc.ents] == [("xaliceyy", "PER")]
        return
    with pytest.warns(UserWarning, match="1 entities fit no spaCy tokens and are left out"):
        component._set(doc, {"entities": [entity]})
    assert not doc.ents


def test_entities_of_others_stay_where_they_do_not_overlap(place: Path) -> None:
    nlp = spacy.blank("en")
    component = nlp.add_pipe("softcue", config=config(place / "tag"))
    doc = spacy.tokens.Doc(nlp.vocab, words=["alice", "saw", "rome"], ents=["B-X", "O", "B-X"])
    component._set(doc, {"entities": [{"start": 0, "end": 5, "word": "alice", "entity_group": "PER"}]})
    assert [(span.text, span.label_) for span in doc.ents] == [("alice", "PER"), ("rome", "X")]


@pytest.mark.parametrize(
    ("which", "more", "error", "told"),
    [
        ("score", {}, RequestError, "answers score on single texts; expected one that tags or classifies"),
        ("choice", {}, RequestError, "expected one that tags or classifies"),
        ("pair", {}, RequestError, "pairs of texts"),
        ("absent", {}, AdapterError, "no such folder"),
        ("tag", {"alignment_mode": "loose"}, RequestError, "expected one of strict, contract, expand"),
    ],
)
def test_what_cannot_be_a_component_is_refused(
    place: Path, which: str, more: dict[str, str], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        spacy.blank("en").add_pipe("softcue", config=config(place / which, **more))


def test_a_component_without_an_adapter_says_what_is_missing() -> None:
    with pytest.raises(RequestError, match="names no adapter; expected config"):
        spacy.blank("en").add_pipe("softcue")


FORKING = """
import sys, spacy, torch
torch.set_num_threads(2)
nlp = spacy.blank("en")
nlp.add_pipe("softcue", config={"adapter": sys.argv[1], "backbone": sys.argv[2], "precision": "float32"})
texts = ["the apple and a fig " * 8] * 128
alone = [doc.cats for doc in nlp.pipe(texts[:64])]
print([doc.cats for doc in nlp.pipe(texts, n_process=2)][:64] == alone)
"""


@pytest.mark.slow
def test_documents_are_answered_by_several_processes(place: Path) -> None:
    # where forked processes wait for threads that only their parent has, this does not end
    asked = [sys.executable, "-c", FORKING, str(place / "classify"), str(base_folder())]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["True"]
