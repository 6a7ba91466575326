"""Checkpoint files: which weights they must hold, how they may be stored, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForPreTraining,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from softcue.encoder.load import load_encoder
from tests.tiny import (
    SIZES,
    TINY,
    V3,
    edit_config,
    edit_weights,
    refusal,
    tiny_folder,
    tiny_hf,
)

FAMILY_NAMES = pytest.mark.parametrize("family", TINY)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return tiny_folder("bert", tmp_path)


def test_the_fingerprint_depends_on_values_and_not_on_how_they_are_stored(bert: Path, tmp_path: Path) -> None:
    edit_weights(
        bert, **{name: value.half().float() for name, value in load_file(bert / "model.safetensors").items()}
    )
    plain = load_encoder(bert)
    values = load_file(bert / "model.safetensors")
    names = sorted(values)

    def stored(kind: str) -> Path:
        folder = tmp_path / kind
        folder.mkdir()
        shutil.copyfile(bert / "config.json", folder / "config.json")
        return folder

    half = stored("half")
    save_file({name: value.half() for name, value in values.items()}, half / "model.safetensors")
    binary = stored("binary")
    torch.save({f"bert.{name}": value for name, value in values.items()}, binary / "pytorch_model.bin")
    legacy = stored("legacy")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): values[name]
        for name in names
    }
    save_file(renamed, legacy / "model.safetensors")
    assert any(name.endswith("gamma") for name in renamed)
    for suffix, kind in ((".safetensors", "shards"), (".bin", "binary-shards")):
        sharded = stored(kind)
        stem = "model" if suffix == ".safetensors" else "pytorch_model"
        parts = {f"{stem}-1-of-2{suffix}": names[::2], f"{stem}-2-of-2{suffix}": names[1::2]}
        for file, members in parts.items():
            part = {name: values[name] for name in members}
            save_file(part, sharded / file) if suffix == ".safetensors" else torch.save(part, sharded / file)
        index = {"weight_map": {name: file for file, members in parts.items() for name in members}}
        (sharded / f"{stem}{suffix}.index.json").write_text(json.dumps(index))
    for kind in ("half", "binary", "legacy", "shards", "binary-shards"):
        other = load_encoder(tmp_path / kind)
        assert other.fingerprint == plain.fingerprint, kind
        for ours, theirs in zip(plain.encoder.parameters(), other.encoder.parameters(), strict=True):
            assert ours.dtype == theirs.dtype == torch.float32
            assert torch.equal(ours, theirs)
    assert load_encoder(bert, dtype=torch.bfloat16).fingerprint == plain.fingerprint
    values["encoder.layer.2.output.dense.bias"][3] += 1e-3
    save_file(values, bert / "model.safetensors")
    assert load_encoder(bert).fingerprint != plain.fingerprint


def test_weights_come_in_the_type_that_is_asked_for(bert: Path) -> None:
    assert {parameter.dtype for parameter in load_encoder(bert, torch.bfloat16).encoder.parameters()} == {
        torch.bfloat16
    }


def test_pretraining_checkpoints_load_with_the_prefix_and_without_a_pooler_they_never_had(
    tmp_path: Path,
) -> None:
    BertForPreTraining(BertConfig(**SIZES)).save_pretrained(tmp_path / "bert")
    assert load_encoder(tmp_path / "bert").encoder.pooler is not None
    RobertaForMaskedLM(RobertaConfig(**SIZES)).save_pretrained(tmp_path / "roberta")
    encoder = load_encoder(tmp_path / "roberta").encoder
    assert encoder.pooler is None
    assert encoder.dims.pooler is False
    DebertaV2ForMaskedLM(DebertaV2Config(**V3)).save_pretrained(tmp_path / "deberta")
    assert load_encoder(tmp_path / "deberta").encoder.dims.layers == SIZES["num_hidden_layers"]


@FAMILY_NAMES
def test_a_missing_weight_is_named(family: str, tmp_path: Path) -> None:
    folder = tiny_folder(family, tmp_path)
    names = sorted(name for name in load_file(folder / "model.safetensors") if not name.startswith("pooler"))
    for lost in (names[0], names[len(names) // 2], names[-1]):
        values = edit_weights(folder)
        save_file(
            {name: value for name, value in values.items() if name != lost}, folder / "model.safetensors"
        )
        message = refusal(folder)
        assert lost in message
        assert "model.safetensors" in message
        assert str(folder) in message
        save_file(values, folder / "model.safetensors")


def test_many_missing_weights_are_named_up_to_five(bert: Path) -> None:
    edit_config(bert, num_hidden_layers=5)
    message = refusal(bert)
    assert message.count("encoder.layer.3.attention") == 5
    assert "and 27 more" in message


@FAMILY_NAMES
def test_a_weight_that_the_family_does_not_use_is_named(family: str, tmp_path: Path) -> None:
    folder = tiny_folder(family, tmp_path)
    edit_weights(folder, **{"encoder.surprise.weight": torch.zeros(2)})
    assert "encoder.surprise.weight" in refusal(folder)


def test_a_checkpoint_of_more_layers_than_its_config_says_is_refused(bert: Path) -> None:
    edit_config(bert, num_hidden_layers=2)
    assert "encoder.layer.2." in refusal(bert)


def test_half_a_pooler_is_a_missing_weight(bert: Path) -> None:
    edit_weights(bert, **{"pooler.dense.bias": None})
    assert "pooler.dense.bias" in refusal(bert)


def test_a_weight_of_the_wrong_shape_or_type_is_named(bert: Path) -> None:
    name = "encoder.layer.1.attention.self.key.weight"
    values = edit_weights(bert)
    edit_weights(bert, **{name: torch.zeros(32, 31)})
    assert name in (message := refusal(bert))
    assert "(32, 31)" in message
    assert "(32, 32)" in message
    edit_weights(bert, **{name: values[name].to(torch.int8)})
    assert name in (message := refusal(bert))
    assert "int8" in message


def test_the_same_weight_under_two_names_is_refused(bert: Path) -> None:
    edit_weights(bert, **{"bert.embeddings.LayerNorm.weight": torch.ones(32)})
    assert "twice" in refusal(bert)


@pytest.mark.parametrize("kept", [0, 5, 300, 20_000, -1])
def test_a_truncated_file_is_refused(bert: Path, kept: int) -> None:
    file = bert / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert "model.safetensors is damaged" in refusal(bert)
    file.unlink()
    torch.save(tiny_hf("bert").state_dict(), bert / "pytorch_model.bin")
    file = bert / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[: min(kept, 20_000)])
    assert "pytorch_model.bin is damaged" in refusal(bert)


def test_a_bin_file_that_would_run_code_is_refused_and_not_run(bert: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    (bert / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Trap()}, bert / "pytorch_model.bin")
    assert "holds more than tensors" in refusal(bert)
    assert not (tmp_path / "sprung").exists()
    torch.save([torch.zeros(1)], bert / "pytorch_model.bin")
    assert "state dict" in refusal(bert)


def test_an_index_may_name_only_files_beside_it(bert: Path, tmp_path: Path) -> None:
    (bert / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = bert / "model.safetensors.index.json"
    for entry in ("../outside.safetensors", str(tmp_path / "outside.safetensors"), "absent.safetensors"):
        index.write_text(json.dumps({"weight_map": {"a": entry}}))
        assert entry in refusal(bert)
    for content in ("{}", '{"weight_map": []}', "[]", "{"):
        index.write_text(content)
        assert "index.json" in refusal(bert)
