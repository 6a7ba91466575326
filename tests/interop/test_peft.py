"""Adapters of PEFT's library, read and written: logits equal those of peft over transformers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from softcue import Adapter, from_peft, to_peft
from softcue.answering.predict import Predictor
from softcue.batch import Example
from softcue.errors import AdapterError, BackboneError, RequestError, WriteError
from tests.adapter.adapter_cases import same
from tests.answering.test_predict import random_adapter
from tests.cli.shell import Shell, make_place, make_shell  # noqa: F401
from tests.tiny import padded
from tests.tiny_base import base_folder, tiny_base

# PEFT's, on transformers 5
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

LENGTH = 3
TEXTS = ("the apple was gold", "iron", "owl crow hawk and the pear in paris", "alice is in rome")
METHODS = ("lora", "ptuning", "prompt")
# family, kind and method of what both libraries have
CASES = [
    *(("bert", kind, method) for kind in ("classify", "tag", "score") for method in METHODS),
    *(("roberta", "tag", method) for method in METHODS),
    ("distilbert", "tag", "lora"),
    ("distilbert", "tag", "prompt"),
    ("electra", "tag", "lora"),
    ("mpnet", "tag", "lora"),
    ("albert", "classify", "prompt"),
]
CLASSES = {"classify": 3, "tag": 5, "score": 1}
TASK = {"classify": "SEQ_CLS", "score": "SEQ_CLS", "tag": "TOKEN_CLS"}


@pytest.fixture(scope="module")
def peft() -> ModuleType:
    """Imported here, since it takes seconds."""
    return pytest.importorskip("peft")


def examples_of(family: str, pair: bool = False) -> list[Example]:
    """Texts as words, or pairs of texts."""
    text = tiny_base(family).text
    if pair:
        return [text.encode(one, other).example for one, other in zip(TEXTS, TEXTS[::-1], strict=True)]
    return [text.encode_words(words.split()).example for words in TEXTS]


def foundation(family: str, kind: str) -> Any:
    """The tiny encoder under transformers' own head."""
    import transformers

    tasks = {"tag": transformers.AutoModelForTokenClassification}
    auto = tasks.get(kind, transformers.AutoModelForSequenceClassification)
    return auto.from_pretrained(base_folder(family), num_labels=CLASSES[kind])


def theirs(model: Any, examples: Sequence[Example], kind: str, front: int) -> Tensor:
    """Logits of PEFT's model from one padded batch: of examples, or of their words one after the other."""
    with torch.no_grad():
        logits = model.eval()(**padded(model, examples)).logits
    if kind != "tag":
        return logits
    return torch.cat(
        [row[[front + word for word in e.word]] for row, e in zip(logits, examples, strict=True)]
    )


def ours(family: str, adapter: Adapter, examples: Sequence[Example]) -> Tensor:
    """The same logits from one packed forward; of scores the values."""
    model = Predictor(tiny_base(family), {"it": adapter}).model
    batch = model.pack(examples, [0] * len(examples))
    with torch.no_grad():
        (part,) = model(batch).parts
    pieces = part.logits.split(batch.words if adapter.kind == "tag" else [1] * len(batch))
    logits = torch.cat([pieces[batch.order.index(i)] for i in range(len(examples))])
    if adapter.kind == "score":
        return logits[:, None] * adapter.spread + adapter.centre
    return logits[:, : CLASSES[adapter.kind]]


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def wrapped(peft: ModuleType, family: str, kind: str, method: str, **more: Any) -> Any:
    """A PEFT model whose every number is random."""
    task = TASK[kind]
    base = foundation(family, kind)
    if method == "lora":
        names = {"distilbert": ["q_lin", "v_lin"], "mpnet": ["attn.q", "attn.v"]}
        given = {"r": 4, "lora_alpha": 6, "target_modules": names.get(family, ["query", "value"]), **more}
        config = peft.LoraConfig(task_type=task, **given)
    else:
        kinds = {"ptuning": peft.PrefixTuningConfig, "prompt": peft.PromptTuningConfig}
        # PEFT takes the width of word vectors for that of the encoder, and knows few names of sizes
        width = base.get_input_embeddings().embedding_dim
        given = {"token_dim": width, "num_attention_heads": base.config.num_attention_heads, **more}
        config = kinds[method](task_type=task, num_virtual_tokens=LENGTH, **given)
    model = peft.get_peft_model(base, config)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    return model


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("family", "kind", "method"), CASES)
def test_an_adapter_of_pefts_gives_the_same_logits_here(
    peft: ModuleType, family: str, kind: str, method: str, tmp_path: Path
) -> None:
    model = wrapped(peft, family, kind, method)
    adapter = from_peft(saved(model, tmp_path / "theirs"), backbone=tiny_base(family))
    assert (adapter.method, adapter.kind) == (method, kind)
    examples = examples_of(family)
    close(ours(family, adapter, examples), theirs(model, examples, kind, LENGTH * (method == "prompt")))
    adapter.save(tmp_path / "ours")
    assert same(Adapter.load(tmp_path / "ours"), adapter)


@pytest.mark.parametrize(("family", "kind", "method"), CASES)
def test_an_adapter_of_ours_gives_the_same_logits_there_and_comes_back_as_it_was(
    peft: ModuleType, family: str, kind: str, method: str, tmp_path: Path
) -> None:
    base = tiny_base(family)
    pooling = "front" if method == "prompt" else "pooler"
    scaled = {"centre": 2.5, "spread": 0.5} if kind == "score" else {}
    pooling = pooling if kind != "tag" else "cls"
    adapter = random_adapter(base, method, kind, pooling=pooling, classes=CLASSES[kind], **scaled)
    # LoRA's product of large numbers would cost float32 a digit, on both sides
    adapter = replace(adapter, cue={name: 0.3 * table for name, table in adapter.cue.items()})
    folder = to_peft(adapter, tmp_path / "theirs", backbone=base)
    model = peft.PeftModel.from_pretrained(foundation(family, kind), folder)
    examples = examples_of(family)
    front = adapter.config.length * (method == "prompt") if method != "lora" else 0
    close(ours(family, adapter, examples), theirs(model, examples, kind, front))
    back = from_peft(folder, backbone=base, labels=adapter.labels or None, limit=adapter.limit)
    assert all(torch.equal(back.cue[name], adapter.cue[name]) for name in adapter.cue)
    if kind != "score":
        assert all(torch.equal(back.head[name], adapter.head[name]) for name in adapter.head)
    assert (back.labels, back.pooling, back.limit) == (adapter.labels, adapter.pooling, adapter.limit)


@pytest.mark.parametrize("method", METHODS)
def test_pairs_of_texts_keep_their_segments(peft: ModuleType, method: str, tmp_path: Path) -> None:
    model, base = wrapped(peft, "bert", "classify", method), tiny_base()
    adapter = from_peft(saved(model, tmp_path / "pair"), backbone=base, labels=("a", "b", "c"), pair=True)
    assert adapter.pair and adapter.labels == ("a", "b", "c")
    examples = examples_of("bert", pair=True)
    close(ours("bert", adapter, examples), theirs(model, examples, "classify", 0))


def test_some_layers_and_other_maps_of_lora_are_read(peft: ModuleType, tmp_path: Path) -> None:
    """What PEFT leaves alone has zeros here."""
    more = {
        "target_modules": ["key", "attention.output.dense", "intermediate.dense"],
        "layers_to_transform": [1],
    }
    model = wrapped(peft, "bert", "classify", "lora", **more)
    adapter = from_peft(saved(model, tmp_path / "some"), backbone=tiny_base())
    assert adapter.config.sites == ("key", "out", "up")
    close(ours("bert", adapter, examples_of("bert")), theirs(model, examples_of("bert"), "classify", 0))


def test_lora_from_some_layer_on_and_a_reparameterised_prefix_are_written(
    peft: ModuleType, tmp_path: Path
) -> None:
    from softcue.cues.lora import LoraConfig
    from softcue.cues.ptuning import PtuningConfig
    from tests.interop.made import adapter_of

    base, examples = tiny_base(), examples_of("bert")
    for name, method, config in (
        ("layers", "lora", LoraConfig(rank=2, first_layer=1, sites=("value", "up"))),
        ("mlp", "ptuning", PtuningConfig(length=4, mlp=6)),
    ):
        adapter = adapter_of(base, method, config, pooling="pooler")
        model = peft.PeftModel.from_pretrained(
            foundation("bert", "classify"), to_peft(adapter, tmp_path / name, backbone=base)
        )
        close(ours("bert", adapter, examples), theirs(model, examples, "classify", 0))


def test_a_projected_prefix_is_read_as_what_the_projection_gives(peft: ModuleType, tmp_path: Path) -> None:
    model = wrapped(peft, "bert", "classify", "ptuning", prefix_projection=True, encoder_hidden_size=7)
    adapter = from_peft(saved(model, tmp_path / "projected"), backbone=tiny_base())
    assert adapter.config.mlp == 0
    close(ours("bert", adapter, examples_of("bert")), theirs(model, examples_of("bert"), "classify", 0))


def exported(tmp_path: Path, method: str = "lora", kind: str = "classify") -> Path:
    """A folder as PEFT would write it, made without PEFT."""
    pooling = "front" if method == "prompt" else "pooler"
    adapter = random_adapter(tiny_base(), method, kind, pooling=pooling)
    return to_peft(adapter, tmp_path / "peft", backbone=tiny_base())


def edited(folder: Path, **changes: Any) -> Path:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


def renamed(folder: Path, changes: Mapping[str, Tensor]) -> Path:
    file = folder / "adapter_model.safetensors"
    save_file({**load_file(file), **changes}, file)
    return folder


def refusal(folder: Path, error: type[Exception] = AdapterError, **more: Any) -> str:
    with pytest.raises(error) as caught:
        from_peft(folder, **{"backbone": tiny_base(), **more})
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"use_rslora": True}, "use_rslora is True"),
        ({"use_dora": True}, "use_dora is True"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out is True"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"rank_pattern": {"query": 2}}, "rank_pattern is"),
        ({"peft_type": "IA3"}, "softcue reads LORA, PREFIX_TUNING, PROMPT_TUNING"),
        ({"task_type": "CAUSAL_LM"}, "softcue reads SEQ_CLS and TOKEN_CLS"),
        ({"r": 3}, "lora_A.weight is"),
        ({"r": "many"}, "r is 'many'"),
        ({"r": 10**9}, "lora_A.weight is"),
        ({"lora_dropout": "much"}, "peft: LoraConfig: dropout is 'much'"),
        ({"task_type": ["SEQ_CLS"]}, "softcue reads SEQ_CLS and TOKEN_CLS"),
        ({"init_lora_weights": "pissa_niter_4"}, "PEFT changes the encoder's own weights"),
        ({"library_name": "softcue"}, "is not PEFT's"),
    ],
)
def test_settings_without_a_counterpart_are_refused_by_name(
    changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    assert told in refusal(edited(exported(tmp_path), **changes))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("base_model.model.classifier.dense.weight", "a head of several layers"),
        ("base_model.model.bert.pooler.dense.weight", "has no counterpart"),
        ("base_model.model.bert.encoder.layer.0.output.dense.lora_A.weight", "has no counterpart"),
    ],
)
def test_tensors_without_a_counterpart_are_refused_by_name(name: str, told: str, tmp_path: Path) -> None:
    message = refusal(renamed(exported(tmp_path), {name: torch.ones(2, 2)}))
    assert told in message


def test_numbers_that_are_not_finite_and_files_that_are_no_adapter_are_refused(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    assert "2 labels came; the classifier has 3" in refusal(folder, RequestError, labels=["a", "b"])
    assert "no finite floats" in refusal(
        renamed(folder, {"base_model.model.classifier.bias": torch.full((3,), torch.nan)})
    )
    (folder / "adapter_model.safetensors").write_bytes(b"junk")
    assert "no sound safetensors" in refusal(folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "pickled" in refusal(folder)
    assert "No such file" in refusal(tmp_path / "absent")


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (7, "labels is a int"),
        ((name for name in "abc"), "labels is a generator"),
        (["a", "b", 3], "expected a list of names"),
        (["a", "b", "a"], "expected each once"),
    ],
)
def test_labels_that_name_no_rows_are_refused(labels: Any, told: str, tmp_path: Path) -> None:
    assert told in refusal(exported(tmp_path), RequestError, labels=labels)


def test_labels_of_a_tagger_are_tags(tmp_path: Path) -> None:
    """Else the first two letters of their names would be lost."""
    folder = exported(tmp_path, kind="tag")
    adapter = from_peft(folder, backbone=tiny_base())
    [answer] = Predictor(tiny_base(), {"it": adapter})([{"adapter": "it", "text": "alice was in paris"}])
    assert {entity["entity_group"] for entity in answer["entities"]} <= {f"LABEL_{i}" for i in range(5)}
    bare = ["O", "PER", "LOC", "ORG", "MISC"]
    assert "label 'PER' is no tag; expected O, B-TYPE or I-TYPE" in refusal(folder, RequestError, labels=bare)
    assert "pair came" in refusal(folder, RequestError, pair=True)


def test_a_number_that_lora_does_not_read_changes_nothing(tmp_path: Path) -> None:
    folder = edited(exported(tmp_path), num_virtual_tokens="many")
    assert from_peft(folder, backbone=tiny_base()).limit == 64


def test_a_backbone_that_is_not_there_is_said_to_be_the_adapters(tmp_path: Path) -> None:
    folder = edited(exported(tmp_path), base_model_name_or_path="/nowhere/bert")
    told = r"The adapter names that backbone; say with backbone \(--backbone\)"
    with pytest.raises(BackboneError, match=told):
        from_peft(folder)
    with pytest.raises(BackboneError, match=told):
        to_peft(replace(random_adapter(tiny_base(), "lora"), backbone="/nowhere/bert"), tmp_path / "new")


def test_peft_is_told_the_hubs_name_of_an_alias(tmp_path: Path) -> None:
    adapter = replace(random_adapter(tiny_base(), "lora", pooling="pooler"), backbone="minilm")
    folder = to_peft(adapter.save(tmp_path / "ours"), tmp_path / "theirs", backbone=tiny_base())
    header = json.loads((folder / "adapter_config.json").read_text())
    assert header["base_model_name_or_path"] == "sentence-transformers/all-MiniLM-L6-v2"


def test_an_adapter_of_another_encoders_size_is_refused(tmp_path: Path) -> None:
    folder = exported(tmp_path, "prompt")
    wider = torch.ones(3, 8)
    assert "expected [" in refusal(renamed(folder, {"prompt_embeddings": wider}))


@pytest.mark.parametrize(
    ("family", "method", "kind", "pooling", "told"),
    [
        ("bert", "pasta", "classify", "pooler", "method pasta has no counterpart"),
        ("bert", "lora", "choice", "pooler", "kind choice has no head"),
        ("bert", "lora", "classify", "mean", "pooling mean has no counterpart"),
        ("bert", "prompt", "classify", "pooler", "expected an adapter trained with pooling front"),
        ("roberta", "lora", "classify", "pooler", "classifier of roberta has several layers"),
        ("distilbert", "ptuning", "tag", "cls", "takes no past keys and values"),
        ("modernbert", "lora", "tag", "cls", "head for tokens of modernbert has several layers"),
        ("albert", "lora", "tag", "cls", "shares them among layers"),
    ],
)
def test_an_adapter_without_a_counterpart_is_not_written(
    family: str, method: str, kind: str, pooling: str, told: str, tmp_path: Path
) -> None:
    adapter = random_adapter(tiny_base(family), method, kind, pooling=pooling)
    with pytest.raises(AdapterError, match=told):
        to_peft(adapter, tmp_path / "new", backbone=tiny_base(family))
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    adapter = random_adapter(tiny_base(), "lora", pooling="pooler")
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(WriteError, match="not empty"):
        to_peft(adapter, tmp_path, backbone=tiny_base())
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_commands_write_a_peft_folder_and_read_it_again(shell: Shell, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_base(), "ptuning", pooling="pooler")
    adapter.save(tmp_path / "first")
    there, back = tmp_path / "there", tmp_path / "back"
    result = shell("export-peft", tmp_path / "first", "--out", there, "--backbone", "backbone")
    assert (result.code, result.out) == (0, f"wrote {there}\n")
    labels = [word for label in adapter.labels for word in ("--label", label)]
    result = shell("import-peft", there, "--out", back, "--backbone", "backbone", *labels)
    assert result.code == 0, result.err
    assert torch.equal(Adapter.load(back).cue["kv"], adapter.cue["kv"])
    assert "not empty" in shell.refused("export-peft", back, "--out", there, "--backbone", "backbone")
    assert "is not PEFT's" in shell.refused(
        "import-peft", back, "--out", tmp_path / "x", "--backbone", "backbone"
    )
