"""adapter_model.safetensors: written in one fixed order, and read only if every byte is as expected."""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy
import torch
from torch import Tensor

from softcue.errors import AdapterError
from softcue.files import parse_json

HEADER_LIMIT = 2**20  # bytes; an adapter has tens of tensors
WIDTH = 4  # bytes of a float32
# the format's name of a type: as NumPy names it, little-endian
NUMPY_TYPES = {"F32": "<f4", "F16": "<f2", "I8": "|i1"}
NAMES = {torch.float32: "F32", torch.float16: "F16", torch.int8: "I8"}
METADATA = "__metadata__"
SHOWN_TENSORS = 8  # names in a message
Shapes = Mapping[str, tuple[int, ...]]


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 over names, shapes and values, in the order of names."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {list(tensor.shape)}\n".encode())
        found.update(_bytes(tensor))
    return found.hexdigest()


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file; the same tensors always give the same bytes."""
    header: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))}
    values = []
    start = 0
    for name, tensor in sorted(tensors.items()):
        end = start + tensor.nbytes
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        values.append(_bytes(tensor))
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns its data
    return b"".join([struct.pack("<Q", len(text)), text, *values])


def read_tensors(
    file: BinaryIO, size: int, shapes: Shapes, types: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the metadata of a file of `size` bytes; whether they are finite is not checked.

    types: of the tensors that are not F32.

    Memory for the tensors is allocated only after the header agrees with `shapes` and with the size.
    """
    length = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))[0]
    if length > min(HEADER_LIMIT, size - 8):
        raise AdapterError(
            f"its {size:,} bytes do not begin with a safetensors header; the file is damaged or has "
            "another format"
        )
    header = _parse(file.read(length))
    metadata = header.pop(METADATA, {})
    spans = _spans(header, shapes, types)
    data = size - 8 - length
    if data != sum(end - start for start, end in spans.values()):
        promised = max((end for _, end in spans.values()), default=0)
        raise AdapterError(f"has {data:,} bytes of tensors, but its header says {promised:,}")
    buffer = bytearray(data)
    if file.readinto(buffer) != data:  # type: ignore[attr-defined]
        raise AdapterError("ended while it was read; is another program writing it?")
    if not isinstance(metadata, dict):
        raise AdapterError(f"{METADATA} is not an object; the file is damaged")
    tensors = {
        name: _view(buffer, start, shapes[name], types.get(name, "F32")) for name, (start, _) in spans.items()
    }
    return tensors, metadata


def check_tensors(tensors: Mapping[str, Tensor], shapes: Shapes) -> None:
    """Refuse tensors in memory that a file of these shapes could not hold."""
    check_same_names(tensors, shapes)
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes[name]:
            raise AdapterError(_difference(name, list(tensor.shape), shapes[name]))
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise AdapterError(
                f"{name} is {tensor.dtype} on {tensor.device}; expected torch.float32 on the CPU"
            )
    check_finite(tensors)


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinities."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise AdapterError(
                f"{name} has values that are not finite; training diverged (lower the learning rate) or the "
                "file is damaged"
            )


def check_same_names(found: Mapping[str, Any], shapes: Shapes) -> None:
    """Refuse a tensor that is missing or left over; the AdapterError names the first."""
    for name in shapes:
        if name not in found:
            raise AdapterError(f"has no tensor {name}; expected {_names(shapes)}")
    for name in found:
        if name not in shapes:
            raise AdapterError(f"has a tensor {name[:80]!r} that is not known; expected {_names(shapes)}")


def _parse(text: bytes) -> dict[str, Any]:
    try:
        header = parse_json(text)
    except ValueError as error:
        raise AdapterError(f"the header {error}") from error
    if not isinstance(header, dict):
        raise AdapterError("the header is not an object; the file is damaged")
    return header


def _view(buffer: bytearray, start: int, shape: tuple[int, ...], kind: str) -> Tensor:
    """Return the tensor whose values begin at `start` in the buffer, without a copy."""
    values = numpy.frombuffer(buffer, NUMPY_TYPES[kind], math.prod(shape), start)
    return torch.from_numpy(values.astype(values.dtype.newbyteorder("="), copy=False)).view(shape)


def _spans(header: Mapping[str, Any], shapes: Shapes, types: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Return where each tensor begins and ends in the data.

    They must follow each other without gaps or overlaps.
    """
    check_same_names(header, shapes)
    spans: dict[str, tuple[int, int]] = {}
    for name, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise AdapterError(
                f"the header's entry for {name} is damaged; expected dtype, shape and data_offsets"
            )
        if entry["dtype"] != types.get(name, "F32"):
            came, expected = str(entry["dtype"])[:20], types.get(name, "F32")
            raise AdapterError(f"{name} is of type {came}; expected {expected}")
        if not _whole(entry["shape"]) or tuple(entry["shape"]) != shapes[name]:
            raise AdapterError(_difference(name, entry["shape"], shapes[name]))
        if not _whole(entry["data_offsets"]) or len(entry["data_offsets"]) != 2:
            raise AdapterError(f"the header's offsets of {name} are damaged; expected two whole numbers")
        spans[name] = entry["data_offsets"][0], entry["data_offsets"][1]
    at = 0
    for name, (start, end) in sorted(spans.items(), key=lambda item: item[1]):
        width = numpy.dtype(NUMPY_TYPES[types.get(name, "F32")]).itemsize
        if start != at or start % width or end - start != width * math.prod(shapes[name]):
            raise AdapterError(
                f"the header's offsets of {name} leave a gap, overlap or do not fit its shape; the file is "
                "damaged"
            )
        at = end
    return spans


def _whole(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int for number in value)


def _difference(name: str, came: Any, expected: tuple[int, ...]) -> str:
    plausible = _whole(came) and len(came) <= 8 and all(abs(size) < 2**63 for size in came)
    shown = came if plausible else "no shape that it could have"
    return f"{name} is {shown}; its settings ask for {list(expected)}"


def _names(shapes: Shapes) -> str:
    names = ", ".join(list(shapes)[:SHOWN_TENSORS])
    if len(shapes) > SHOWN_TENSORS:
        names += f" and {len(shapes) - SHOWN_TENSORS} more"
    return names


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().numpy().astype(NUMPY_TYPES[NAMES[tensor.dtype]], copy=False).tobytes()
