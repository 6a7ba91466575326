"""One exported graph answers as Predictor does, for every method and any mix of adapters."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from softcue import OnnxPredictor, export_onnx
from softcue.adapter import Adapter
from softcue.answering.predict import Predictor
from softcue.base import open_base
from softcue.cues.apt import AptConfig
from softcue.cues.gpc import GpcConfig
from softcue.cues.lora import LoraConfig
from softcue.cues.pasta import PastaConfig
from softcue.cues.prompt import PromptConfig
from softcue.cues.ptuning import PtuningConfig
from softcue.cues.spt import SptConfig
from softcue.errors import AdapterError, BackboneError, BatchError, RequestError, WriteError
from softcue.interop.onnx_tensors import READ_METHOD
from tests.answering.test_predict import KINDS, REQUESTS, random_adapter
from tests.cli.shell import Shell, make_place, make_shell  # noqa: F401  (fixtures)
from tests.contract.cases import METHODS
from tests.interop.made import adapter_of
from tests.tiny_base import tiny_base

pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
FAMILIES = ("mpnet", "deberta-v3", "modernbert")
LIKE_BERT = ("roberta", "distilbert", "electra", "albert")
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


@pytest.fixture(scope="module", name="graph")
def make_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported graph of all of BERT's adapters."""
    return export_onnx(zoo("bert")[0], tmp_path_factory.mktemp("onnx") / "graph", backbone=tiny_base())


@pytest.fixture(scope="module", name="runner")
def make_runner(graph: Path) -> OnnxPredictor:
    """What answers by that graph, with onnxruntime."""
    return OnnxPredictor(graph, threads=1)


def test_every_method_has_a_form_in_the_graph() -> None:
    assert set(METHODS) == set(READ_METHOD)


def test_a_batch_of_all_methods_kinds_and_settings_is_answered_as_by_predictor(
    runner: OnnxPredictor,
) -> None:
    adapters, requests = zoo("bert")
    alike(as_predictor("bert", adapters, requests), runner(requests))


@pytest.mark.parametrize("method", METHODS)
def test_each_method_alone_in_a_batch_and_in_a_graph_of_its_own(
    method: str, runner: OnnxPredictor, tmp_path: Path
) -> None:
    adapters, requests = zoo("bert")
    own = {name: adapter for name, adapter in adapters.items() if adapter.method == method}
    asked = [request for request in requests if request["adapter"] in own]
    expected = as_predictor("bert", own, asked)
    alike(expected, runner(asked))
    for request, answer in zip(asked, expected, strict=True):
        alike([answer], runner([request]))
    small = OnnxPredictor(export_onnx(own, tmp_path / "graph", backbone=tiny_base()), threads=1)
    assert small.inputs.keys() < runner.inputs.keys()
    alike(expected, small(asked))


def test_order_and_budget_change_no_answer(runner: OnnxPredictor) -> None:
    requests = zoo("bert")[1]
    alike(runner(requests)[::-1], runner(requests[::-1], budget=20))
    assert runner([]) == []


def test_a_text_of_many_windows_and_given_tokens_are_tagged_alike(runner: OnnxPredictor) -> None:
    adapters = zoo("bert")[0]
    tokens = ["alice", "was", "in", "paris", ",", "bob", "in", "U.S."] * 9
    requests = [{"adapter": f"{method}.tag", "tokens": tokens} for method in ("pasta", "ptuning", "prompt")]
    alike(as_predictor("bert", adapters, requests), runner(requests))


@pytest.mark.parametrize(
    "family", [*FAMILIES, *(pytest.param(one, marks=pytest.mark.slow) for one in LIKE_BERT)]
)
def test_every_family_answers_for_every_method_kind_and_setting(family: str, tmp_path: Path) -> None:
    base = tiny_base(family)
    adapters, requests = zoo(family, base.backbone.encoder.pooler is not None)
    folder = export_onnx(adapters, tmp_path / "graph", backbone=base)
    alike(as_predictor(family, adapters, requests), OnnxPredictor(folder, threads=1)(requests))


def test_the_graph_holds_no_number_or_size_of_an_adapter(graph: Path, tmp_path: Path) -> None:
    """Other adapters, larger ones among them, are answered by the graph that was written for the first."""
    base = tiny_base()
    longer = {
        "late": adapter_of(base, "ptuning", PtuningConfig(length=9), seed=77),
        "wide": adapter_of(base, "lora", LoraConfig(rank=7), seed=78),
    }
    shutil.copytree(graph, tmp_path / "graph")
    other = export_onnx(longer, tmp_path / "other", backbone=base)
    told = [json.loads((folder / "graph.json").read_text()) for folder in (graph, other)]
    (tmp_path / "graph" / "graph.json").write_text(
        json.dumps({**told[0], "adapters": {**told[0]["adapters"], **told[1]["adapters"]}})
    )
    for name in longer:
        shutil.copyfile(other / "adapters" / f"{name}.npz", tmp_path / "graph" / "adapters" / f"{name}.npz")
    requests = [{"adapter": name, "text": "the gold owl"} for name in (*longer, "probe.classify")]
    adapters = {**zoo("bert")[0], **longer}
    alike(as_predictor("bert", adapters, requests), OnnxPredictor(tmp_path / "graph")(requests))


def test_answering_needs_no_torch(graph: Path) -> None:
    script = (
        "import json, sys; from softcue.interop.onnx_runner import OnnxPredictor; "
        f"answers = OnnxPredictor({str(graph)!r})([{{'adapter': 'pasta.tag', 'text': 'alice is in rome'}}]); "
        "print(json.dumps([len(answers), 'torch' in sys.modules, 'transformers' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [1, False, False]


@pytest.mark.parametrize("kind", ["classify", "tag", "multilabel", "choice"])
def test_an_answer_is_called_unsure_where_predictor_calls_it_so(kind: str, tmp_path: Path) -> None:
    base = tiny_base()
    request = {**REQUESTS[next(one for one in KINDS if one[0] == kind)], "adapter": "a"}
    plain = random_adapter(base, "pasta", kind, pair="text_pair" in request)
    [sure] = as_predictor("bert", {"a": plain}, [request])
    scores = [entity["score"] for entity in sure["entities"]] if kind == "tag" else sure["scores"]
    chances = list(scores.values()) if isinstance(scores, dict) else scores
    for below in (min(chances) / 2, max(chances) + 1e-3):
        adapters = {"a": replace(plain, unsure_below=below)}
        folder = export_onnx(adapters, tmp_path / f"graph-{below}", backbone=base)
        expected = as_predictor("bert", adapters, [request])
        assert "unsure" in json.dumps(expected)
        alike(expected, OnnxPredictor(folder, threads=1)([request]))


def test_an_encoder_with_a_convolution_is_refused_by_name(tmp_path: Path) -> None:
    base = tiny_base("deberta-v2-conv")
    with pytest.raises(BackboneError, match="because of its ConvolvedLayer; expected BERT"):
        export_onnx({"a": random_adapter(base, "lora")}, tmp_path / "graph", backbone=base)
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
    with pytest.raises(RequestError, match="not an adapter's name"):
        export_onnx({"../a": plain}, tmp_path / "new", backbone=base)
    with pytest.raises(AdapterError, match="weights or the tokenizer"):
        export_onnx({"a": plain}, tmp_path / "new", backbone=tiny_base(seed=1))
    assert not (tmp_path / "new").exists()


def test_requests_that_are_not_as_they_must_be_are_refused(runner: OnnxPredictor, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="request 1 names the adapter 'x'"):
        runner([{"adapter": "lora.tag", "text": "owl"}, {"adapter": "x", "text": "owl"}])
    with pytest.raises(RequestError, match=r"request 0 .adapter 'lora.tag'.: gives no input"):
        runner([{"adapter": "lora.tag"}])
    with pytest.raises(RequestError, match="request 0 is 'owl'"):
        runner(["owl"])  # type: ignore[list-item]
    with pytest.raises(RequestError, match="dict came as requests"):
        runner({"adapter": "lora.tag", "text": "owl"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "config"), [("prompt", PromptConfig(length=30)), ("ptuning", PtuningConfig(30))]
)
def test_a_text_beyond_the_encoders_positions_is_refused(method: str, config: Any, tmp_path: Path) -> None:
    base = tiny_base()
    adapter = adapter_of(base, method, config)  # whose texts may have 40 tokens, of 64 positions
    folder = export_onnx({"a": adapter}, tmp_path / "graph", backbone=base)
    runner, request = OnnxPredictor(folder, threads=1), {"adapter": "a", "text": "owl " * 50}
    with pytest.raises(BatchError, match="reaches position 70"):
        as_predictor("bert", {"a": adapter}, [request])
    with pytest.raises(RequestError, match=r"request 0 .adapter 'a'.: an example reaches position 70"):
        runner([request])


DAMAGES: Mapping[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "no manifest": ("graph.json", lambda data: b"", "is not JSON"),
    "an older format": (
        "graph.json",
        lambda data: data.replace(b'_version": 1', b'_version": 0'),
        "export again",
    ),
    "no readings": (
        "graph.json",
        lambda data: data.replace(b'"reading"', b'"other"'),
        "not as it was written",
    ),
    "a kind of its own": ("graph.json", lambda data: data.replace(b'"score"', b'"guess"'), "kind is unknown"),
    "a path": ("graph.json", lambda data: data.replace(b'"a": {', b'"../a": {'), "name is a path"),
    "half the numbers": ("adapters/a.npz", lambda data: data[: len(data) // 2], "cannot be read"),
    "no numbers": ("adapters/a.npz", lambda data: b"", "cannot be read"),
    "other numbers": ("adapters/a.npz", lambda data: numbers_of("distilbert"), "is no input of this graph"),
    "half the graph": ("model.onnx", lambda data: data[: len(data) // 2], "no sound graph"),
    "no weights": ("model.onnx.data", lambda data: b"", "no sound graph"),
    "no tokenizer": ("tokenizer.json", lambda data: b"{}", "tokenizer"),
}


def numbers_of(family: str) -> bytes:
    """The numbers' file of an adapter that another graph has."""
    with tempfile.TemporaryDirectory() as parent:
        adapter = random_adapter(tiny_base(family), "spt")
        folder = export_onnx({"a": adapter}, Path(parent) / "graph", backbone=tiny_base(family))
        return (folder / "adapters" / "a.npz").read_bytes()


@pytest.fixture(scope="module", name="small")
def make_small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of one adapter."""
    adapter = random_adapter(tiny_base(), "pasta", "score")
    return export_onnx({"a": adapter}, tmp_path_factory.mktemp("onnx") / "small", backbone=tiny_base())


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_missing_file_is_told_in_one_line(damage: str, small: Path, tmp_path: Path) -> None:
    name, change, said = DAMAGES[damage]
    folder = shutil.copytree(small, tmp_path / "graph")
    (folder / name).write_bytes(change((small / name).read_bytes()))
    with pytest.raises((AdapterError, BackboneError), match=said) as caught:
        OnnxPredictor(folder)
    assert name.removesuffix(".data") in str(caught.value)
    assert "\n" not in str(caught.value)
    (folder / name).unlink()
    with pytest.raises((AdapterError, BackboneError)) as caught:
        OnnxPredictor(folder)
    assert name.split(".")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_graph_of_minilm_answers_as_predictor_does(tmp_path: Path) -> None:
    base = open_base("minilm", "float32")
    adapters = {method: random_adapter(base, method) for method in METHODS}
    # At the usual size of these random numbers LoRA turns 384 wide rows into others by far, and with them
    # every rounding: Predictor's kernels differ by 5e-6 there, and onnxruntime by 2e-5. So they are small.
    adapters = {
        name: replace(adapter, cue={key: numbers * 0.1 for key, numbers in adapter.cue.items()})
        for name, adapter in adapters.items()
    }
    texts = ("Where is my parcel?", "I cannot log in, and the reset link has expired since yesterday. " * 3)
    requests = [{"adapter": name, "text": text} for name in adapters for text in texts]
    runner = OnnxPredictor(export_onnx(adapters, tmp_path / "graph", backbone=base), threads=1)
    alike(Predictor(base, adapters)(requests), runner(requests))


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
    with pytest.raises(WriteError, match="not empty"):
        export_onnx({"a": adapter}, tmp_path / "graph", backbone=tiny_base())
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    again = (*words[:-1], tmp_path / "other", "--backbone", "backbone")
    assert "pip install 'softcue[onnx]'" in shell.refused(*again)
