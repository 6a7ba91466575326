"""One exported graph answers as Predictor does, for every method and any mix of adapters."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from softcue import OnnxPredictor, export_onnx
from softcue.adapter import Adapter
from softcue.answering.predict import Predictor
from softcue.cues.apt import AptConfig
from softcue.cues.gpc import GpcConfig
from softcue.cues.lora import LoraConfig
from softcue.cues.pasta import PastaConfig
from softcue.cues.prompt import PromptConfig
from softcue.cues.ptuning import PtuningConfig
from softcue.cues.spt import SptConfig
from softcue.errors import AdapterError, BackboneError, RequestError, WriteError
from softcue.interop.onnx_numbers import READ_METHOD
from tests.answering.test_predict import KINDS, REQUESTS, random_adapter
from tests.cli.shell import Shell, make_place, make_shell  # noqa: F401  (fixtures)
from tests.contract.cases import METHODS
from tests.interop.made import adapter_of
from tests.tiny_base import tiny_base

POOLINGS = ("mean", "cls", "pooler", "front")
# settings under which a method computes something else than by default
SETTINGS: Mapping[str, tuple[str, Any]] = {
    "pasta-cls": ("pasta", PastaConfig(slots=2, tokens="cls", first_layer=1)),
    "pasta-shared": ("pasta", PastaConfig(slots=2, shared=True)),
    "spt-upper": ("spt", SptConfig(length=2, tau=3.0, first_layer=1)),
    "apt-mean": ("apt", AptConfig(length=6, reads="mean", layer_gate=False, shift=False)),
    "apt-nothing": ("apt", AptConfig(length=2, reads="nothing", first_layer=2)),
    "apt-scale": ("apt", AptConfig(length=2, token_gate=False)),
    "gpc-tanh": ("gpc", GpcConfig(length=4, combine="tanh", bias=True, init="normal")),
    "gpc-gate": ("gpc", GpcConfig(length=2, combine="gate", norm=True, memory="initial", init="normal")),
    "ptuning-mlp": ("ptuning", PtuningConfig(length=5, mlp=4, first_layer=1)),
    "ptuning-still": ("ptuning", PtuningConfig(length=1, shift=False)),
    "prompt-layer": ("prompt", PromptConfig(length=2, enter="layer")),
    "lora-wide": ("lora", LoraConfig(rank=3, alpha=5.0, sites=("key", "out", "up"), first_layer=1)),
}
Zoo = tuple[dict[str, Adapter], list[dict[str, Any]]]


def zoo(family: str, pooler: bool = True) -> Zoo:
    """Adapters of every method, kind and pooling, and of other settings, with two requests for each."""
    base, adapters, requests = tiny_base(family), {}, []
    poolings = POOLINGS if pooler else POOLINGS[:2]
    for number, method in enumerate(METHODS):
        for place, (kind, pair) in enumerate(KINDS):
            name = f"{method}.{kind}{'-pair' * pair}"
            pooling = poolings[(number + place) % len(poolings)]
            adapters[name] = random_adapter(base, method, kind, pair, seed=number + place, pooling=pooling)
            requests.append({**REQUESTS[kind, pair], "adapter": name})
    for number, (name, (method, config)) in enumerate(SETTINGS.items()):
        pooling = poolings[number % len(poolings)]
        adapters[name] = adapter_of(base, method, config, pooling=pooling, seed=number)
        requests += [
            {"text": text, "adapter": name} for text in ("gold", "the fig and a plum of the quiet crow")
        ]
    return adapters, requests


def alike(one: Any, other: Any) -> None:
    """Equal, numbers to 1e-5."""
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            alike(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            alike(a, b)
    elif isinstance(one, float):
        assert other == pytest.approx(one, abs=1e-5)
    else:
        assert one == other


def as_predictor(family: str, adapters: Mapping[str, Adapter], requests: Sequence[Any]) -> list[Any]:
    """What Predictor answers."""
    return Predictor(tiny_base(family), adapters)(requests)


@pytest.fixture(scope="module", name="runner")
def make_runner() -> OnnxPredictor:
    """Of all of BERT's adapters, by torch: only slow tests export."""
    return eager_predictor(tiny_base(), zoo("bert")[0])


FEW = ("pasta.tag", "ptuning.classify", "spt.score-pair")


@pytest.fixture(scope="module", name="graph")
def make_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported graph of a few adapters."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    adapters = {name: zoo("bert")[0][name] for name in FEW}
    return export_onnx(adapters, tmp_path_factory.mktemp("onnx") / "graph", backbone=tiny_base())


def test_every_method_has_a_form_in_the_graph() -> None:
    assert set(METHODS) == set(READ_METHOD)


def test_a_batch_of_all_methods_kinds_and_settings_is_answered_as_by_predictor(
    runner: OnnxPredictor,
) -> None:
    adapters, requests = zoo("bert")
    alike(as_predictor("bert", adapters, requests), runner(requests))


@pytest.mark.parametrize("method", METHODS)
def test_each_method_alone_and_in_a_batch_of_its_own_adapters(method: str, runner: OnnxPredictor) -> None:
    adapters, requests = zoo("bert")
    own = [request for request in requests if adapters[request["adapter"]].method == method]
    expected = as_predictor("bert", adapters, own)
    alike(expected, runner(own))
    for request, answer in zip(own, expected, strict=True):
        alike([answer], runner([request]))


def test_order_and_budget_change_no_answer(runner: OnnxPredictor) -> None:
    requests = zoo("bert")[1]
    alike(runner(requests)[::-1], runner(requests[::-1], budget=20))
    assert runner([]) == []


def test_a_text_of_many_windows_and_given_tokens_are_tagged_alike(runner: OnnxPredictor) -> None:
    adapters = zoo("bert")[0]
    tokens = ["alice", "was", "in", "paris", ",", "bob", "in", "U.S."] * 9
    requests = [{"adapter": f"{method}.tag", "tokens": tokens} for method in ("pasta", "ptuning", "prompt")]
    alike(as_predictor("bert", adapters, requests), runner(requests))


@pytest.mark.slow
def test_onnxruntime_answers_a_mixed_batch_as_predictor_does(graph: Path) -> None:
    adapters, requests = zoo("bert")
    few = [request for request in requests if request["adapter"] in FEW]
    runner = OnnxPredictor(graph, threads=1)
    expected = as_predictor("bert", adapters, few)
    alike(expected, runner(few))
    for request, answer in zip(few, expected, strict=True):
        alike([answer], runner([request]))


@pytest.mark.soak
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "albert"])
def test_onnxruntime_answers_for_every_method_and_setting(family: str, tmp_path: Path) -> None:
    base = tiny_base(family)
    adapters, requests = zoo(family, base.backbone.encoder.pooler is not None)
    folder = export_onnx(adapters, tmp_path / "graph", backbone=base)
    alike(as_predictor(family, adapters, requests), OnnxPredictor(folder, threads=1)(requests))


@pytest.mark.slow
def test_adapters_that_came_later_are_answered_by_the_same_graph(graph: Path) -> None:
    """The graph holds no adapter's number, and no adapter's size."""
    base = tiny_base()
    longer = {"late": adapter_of(base, "ptuning", PtuningConfig(length=9), seed=77)}
    runner, other = OnnxPredictor(graph), eager_predictor(base, longer)
    for part in ("about", "reading", "numbers"):
        getattr(runner, part).update(getattr(other, part))
    request = {"adapter": "late", "text": "the gold owl"}
    alike(as_predictor("bert", longer, [request]), runner([request]))


@pytest.mark.slow
def test_answering_needs_no_torch(graph: Path) -> None:
    script = (
        "import json, sys; from softcue.interop.onnx_runner import OnnxPredictor; "
        f"answers = OnnxPredictor({str(graph)!r})([{{'adapter': 'pasta.tag', 'text': 'alice is in rome'}}]); "
        "print(json.dumps([len(answers), 'torch' in sys.modules, 'transformers' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [1, False, False]


@pytest.mark.parametrize("family", ["roberta", "distilbert", "electra", "albert"])
def test_other_plain_families_are_covered_too(family: str) -> None:
    base = tiny_base(family)
    adapters, requests = zoo(family, base.backbone.encoder.pooler is not None)
    alike(as_predictor(family, adapters, requests), eager_predictor(base, adapters)(requests))


@pytest.mark.parametrize("family", ["mpnet", "deberta-v3", "modernbert"])
def test_other_families_are_refused_by_name(family: str, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_base(family), "lora")
    with pytest.raises(BackboneError, match="the ONNX graph covers BERT"):
        export_onnx({"a": adapter}, tmp_path / "graph", backbone=tiny_base(family))
    assert not (tmp_path / "graph").exists()


def test_what_a_graph_does_not_cover_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    base = tiny_base()
    cells = adapter_of(base, "gpc", GpcConfig(length=2, shared=False))
    with pytest.raises(AdapterError, match="adapter 'a': gpc with shared=False"):
        export_onnx({"a": cells}, tmp_path / "new", backbone=base)
    plain = random_adapter(base, "probe")
    with pytest.raises(AdapterError, match="a fully tuned encoder"):
        export_onnx({"a": replace(plain, tuned="full")}, tmp_path / "new", backbone=base)
    with pytest.raises(RequestError, match="no adapters came"):
        export_onnx({}, tmp_path / "new")
    with pytest.raises(RequestError, match="no adapter's name"):
        export_onnx({"../a": plain}, tmp_path / "new", backbone=base)
    with pytest.raises(AdapterError, match="weights or the tokenizer"):
        export_onnx({"a": plain}, tmp_path / "new", backbone=tiny_base(seed=1))
    assert not (tmp_path / "new").exists()


def test_requests_and_folders_that_are_not_as_they_must_be_are_refused(
    runner: OnnxPredictor, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="request 1 names the adapter 'x'"):
        runner([{"adapter": "lora.tag", "text": "owl"}, {"adapter": "x", "text": "owl"}])
    with pytest.raises(RequestError, match=r"request 0 .adapter 'lora.tag'.: gives no input"):
        runner([{"adapter": "lora.tag"}])
    with pytest.raises(AdapterError, match=r"graph\.json"):
        OnnxPredictor(tmp_path)
    (tmp_path / "graph.json").write_text('{"format_version": 1}')
    with pytest.raises(AdapterError, match="not as it was written"):
        OnnxPredictor(tmp_path)


@pytest.mark.soak
def test_the_command_writes_a_graph_of_adapters_by_their_folders_names(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = random_adapter(tiny_base(), "pasta", seed=4)
    for name in ("one", "two"):
        adapter.save(tmp_path / name)
    words = ("export-onnx", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "graph")
    result = shell(*words, "--backbone", "backbone")
    assert (result.code, result.out) == (0, f"wrote {tmp_path / 'graph'}\n"), result.err
    request = {"text": "the gold owl", "adapter": "two"}
    alike(as_predictor("bert", {"two": adapter}, [request]), OnnxPredictor(tmp_path / "graph")([request]))
    assert "not empty" in shell.refused(*words, "--backbone", "backbone")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    again = (*words[:-1], tmp_path / "other", "--backbone", "backbone")
    assert "pip install 'softcue[onnx]'" in shell.refused(*again)
    with pytest.raises(WriteError, match="not empty"):
        export_onnx({"a": adapter}, tmp_path / "graph", backbone=tiny_base())
    assert torch.is_grad_enabled()
