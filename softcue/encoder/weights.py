"""Checkpoint files: their tensors under the names of a family's table, in and out."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from softcue.encoder.core import Encoder
from softcue.encoder.family import Family
from softcue.errors import BackboneError

# best first
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SHOWN_WEIGHTS = 5  # names in one message
# how TensorFlow, and the oldest checkpoints, name a norm's parameters
LEGACY = {"gamma": "weight", "beta": "bias"}


@dataclass(frozen=True)
class Stored:
    """A checkpoint on disk; tensors are read one at a time."""

    file: Path
    read: Mapping[str, Callable[[], Tensor]]  # by the names that the family's table uses

    def has(self, module: str) -> bool:
        """Say whether any tensor belongs to `module`."""
        return any(name.startswith(f"{module}.") for name in self.read)


def weights_file(folder: Path) -> Path | None:
    """Return the file that the weights of `folder` are read from."""
    return next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)


def open_weights(folder: Path, family: Family) -> Stored:
    """Open the tensors of `folder`, prefixes and legacy names undone.

    Raises BackboneError where files are absent or damaged.
    """
    file = weights_file(folder)
    if file is None:
        raise BackboneError(f"no weights; expected {WEIGHT_FILES[0]} or {WEIGHT_FILES[2]} beside config.json")
    raw: dict[str, Callable[[], Tensor]] = {}
    for part in _shards(file) if file.suffix == ".json" else [file]:
        raw.update(_open(part))
    read: dict[str, Callable[[], Tensor]] = {}
    for name, tensor in raw.items():
        plain = plain_name(name, family.prefixes)
        if plain in read:
            raise BackboneError(
                f"{file.name} has {plain} twice, with and without '{name.removesuffix(plain)}'; expected one"
            )
        read[plain] = tensor
    return Stored(file, read)


def plain_name(name: str, prefixes: tuple[str, ...]) -> str:
    """Return a checkpoint's name as the family's table writes it."""
    prefix = next((p for p in prefixes if name.startswith(p)), "")
    module, _, leaf = name.removeprefix(prefix).rpartition(".")
    return f"{module}.{LEGACY.get(leaf, leaf)}" if module else leaf


def table_of(encoder: Encoder, family: Family) -> dict[str, tuple[str, ...]]:
    """Return our parameter -> the checkpoint's names that it is joined from.

    A layer that is used again is listed once.
    """
    table = {}
    for name, _ in encoder.named_parameters():
        module, _, leaf = name.rpartition(".")
        number = re.search(r"\.(\d+)\.", module)
        pattern = re.sub(r"\.\d+\.", ".{}.", module)
        theirs = family.names[pattern]
        parts = (theirs,) if isinstance(theirs, str) else theirs
        table[name] = tuple(f"{part.format(number[1] if number else '')}.{leaf}" for part in parts)
    return table


def check_weight_names(stored: Stored, table: Mapping[str, tuple[str, ...]], family: Family) -> None:
    """Refuse a checkpoint that lacks a weight, or has one that the family neither uses nor ignores."""
    used = {name for parts in table.values() for name in parts}
    missing = [name for parts in table.values() for name in parts if name not in stored.read]
    if missing:
        raise BackboneError(
            f"{stored.file.name} lacks {_some(missing)}; expected every weight of the encoder in config.json"
        )
    ignored = re.compile("|".join(family.ignored))
    extra = [name for name in stored.read if name not in used and not ignored.fullmatch(name)]
    if extra:
        raise BackboneError(
            f"{stored.file.name} has {_some(extra)}, which {family.models[0]} does not use; is config.json "
            "of another model?"
        )


def tensors(
    encoder: Encoder, table: Mapping[str, tuple[str, ...]], stored: Stored
) -> Iterator[tuple[str, Tensor]]:
    """Yield our parameters' values as they are stored, in the encoder's order.

    Raises BackboneError for a wrong shape or type.
    """
    for name, parameter in encoder.named_parameters():
        parts = table[name]
        shape = (parameter.shape[0] // len(parts), *parameter.shape[1:])
        found = []
        for part in parts:
            tensor = stored.read[part]()
            if tensor.shape != shape:
                came = f"{tuple(tensor.shape)} in {stored.file.name}"
                raise BackboneError(f"{part} has shape {came}; expected {shape} by config.json")
            if tensor.dtype not in FLOATS:
                raise BackboneError(
                    f"{part} is stored as {tensor.dtype} in {stored.file.name}; expected 16, 32 or 64 bit "
                    "floats"
                )
            found.append(tensor)
        yield name, found[0] if len(found) == 1 else torch.cat(found)


def fill(
    encoder: Encoder,
    table: Mapping[str, tuple[str, ...]],
    stored: Stored,
    dtype: torch.dtype,
    device: torch.device | str,
) -> None:
    """Give an encoder that was built on the meta device its weights."""
    # A copy even where nothing is converted: the file may be mapped, and may be written again while the
    # encoder lives.
    values = {name: tensor.to(device, dtype, copy=True) for name, tensor in tensors(encoder, table, stored)}
    # not strict: a layer that is listed again has one set of names
    encoder.load_state_dict(values, strict=False, assign=True)


def weights_digest(encoder: Encoder, table: Mapping[str, tuple[str, ...]], stored: Stored) -> str:
    """Return SHA-256 over names, shapes and float32 values, whatever files and types they are stored in."""
    sha = hashlib.sha256()
    for name, tensor in tensors(encoder, table, stored):
        sha.update(f"{name} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.float().contiguous().numpy().data)
    return sha.hexdigest()


def write_weights(encoder: Encoder, table: Mapping[str, tuple[str, ...]], file: Path) -> None:
    """Write the encoder as a Hugging Face checkpoint in float32, joined parameters taken apart again."""
    values = {}
    for name, parameter in encoder.named_parameters():
        parts = table[name]
        chunks = parameter.detach().float().cpu().chunk(len(parts))
        values.update({part: chunk.clone() for part, chunk in zip(parts, chunks, strict=True)})
    save_file(values, file, metadata={"format": "pt"})


def read_json_object(file: Path) -> dict[str, Any]:
    """Read a file that must hold one JSON object."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(f"{file.name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise BackboneError(f"{file.name} holds a {type(value).__name__}; expected a JSON object")
    return value


def _shards(index: Path) -> list[Path]:
    """Return the files that an index names, all of which must lie beside it."""
    names = read_json_object(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise BackboneError(f"{index.name} has no weight_map; expected the file of each weight")
    files = sorted({str(name) for name in names.values()})
    outside = [name for name in files if Path(name).name != name]
    absent = [name for name in files if name not in outside and not (index.parent / name).is_file()]
    if outside or absent:
        raise BackboneError(f"{index.name} names {_some(outside or absent)}; expected files beside it")
    return [index.parent / name for name in files]


def _open(file: Path) -> dict[str, Callable[[], Tensor]]:
    if file.suffix == ".safetensors":
        try:
            handle = safe_open(file, framework="pt")
            return {name: partial(handle.get_tensor, name) for name in handle.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, OSError) as error:
            raise BackboneError(f"{file.name} is damaged: {error}; fetch it again") from error
    try:
        values = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged archive raises whatever its bytes lead to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BackboneError(f"{file.name} is damaged, or holds more than tensors: {reason}") from error
    if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
        raise BackboneError(f"{file.name} holds something other than named tensors; expected a state dict")
    return {str(name): partial(_same, value) for name, value in values.items()}


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN_WEIGHTS
    return ", ".join(names[:SHOWN_WEIGHTS]) + (f" and {more} more" if more > 0 else "")
