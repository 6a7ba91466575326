"""Base: what is opened by name, and what it is known by."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from softcue.base import best_dtype, dtype_of, open_base
from softcue.errors import BackboneError, RequestError
from tests.tiny import edit_weights
from tests.tiny_base import base_folder, tiny_base


def copied(to: Path) -> Path:
    shutil.copytree(base_folder(), to / "copy")
    return to / "copy"


def test_a_fingerprint_follows_the_contents_and_not_the_place(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    assert open_base(str(folder), "float32").fingerprint == tiny_base().fingerprint
    assert open_base(str(folder), "bfloat16").fingerprint == tiny_base().fingerprint
    file = folder / "tokenizer.json"
    # another layout of the same tokenizer
    file.write_text(json.dumps(json.loads(file.read_text()), indent=4))
    assert open_base(str(folder), "float32").fingerprint == tiny_base().fingerprint


def test_another_weight_is_another_base(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    bias = "encoder.layer.0.output.dense.bias"
    edit_weights(folder, **{bias: edit_weights(folder)[bias] + 1e-3})
    assert open_base(str(folder), "float32").fingerprint != tiny_base().fingerprint


def test_another_tokenizer_is_another_base(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    file = folder / "tokenizer.json"
    stored = json.loads(file.read_text())
    stored["normalizer"]["lowercase"] = False
    file.write_text(json.dumps(stored))
    assert open_base(str(folder), "float32").fingerprint != tiny_base().fingerprint


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BackboneError, match=r"neither tokenizer.json nor vocab.txt"):
        open_base(str(folder))


def test_the_text_is_cut_to_what_the_encoder_reads() -> None:
    base = tiny_base()
    assert len(base.text.encode("apple " * 500).example.token) == base.backbone.encoder.spec.positions


def test_precisions_are_what_they_say() -> None:
    assert dtype_of("float32") == torch.float32
    assert dtype_of("bfloat16") == torch.bfloat16
    assert dtype_of("auto") == best_dtype("cpu") in (torch.float32, torch.bfloat16)
    assert next(tiny_base(precision="bfloat16").backbone.encoder.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("precision", ["float16", "", "AUTO"])
def test_an_unknown_precision_is_refused(precision: str) -> None:
    with pytest.raises(RequestError, match=r"precision .* expected one of auto, float32, bfloat16"):
        dtype_of(precision)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "cpu:x", "meta"])
def test_a_device_that_is_not_to_be_had_is_refused(device: str) -> None:
    with pytest.raises(RequestError, match=r"device .* is not available"):
        open_base(str(base_folder()), "float32", device)
