"""Records: an adapter's two files as one string of bytes, which is stored in a slab."""

import hashlib
import struct
from collections.abc import Mapping

from softcue.adapter.folder import HEADER, TENSORS
from softcue.errors import AdapterError

RECORD_MAGIC = b"softcue\x01"
RECORD_FRAME = struct.Struct("<8sQQ")  # RECORD_MAGIC, length of the header, length of the tensors


def to_record(files: Mapping[str, bytes]) -> bytes:
    """Return the record of the files that Adapter.to_files returned."""
    header, tensors = files[HEADER], files[TENSORS]
    return b"".join((RECORD_FRAME.pack(RECORD_MAGIC, len(header), len(tensors)), header, tensors))


def from_record(record: bytes) -> dict[str, bytes]:
    """Return the files in a record. Raises AdapterError if the bytes are not a record."""
    magic, header, tensors = RECORD_FRAME.unpack(record[: RECORD_FRAME.size].ljust(RECORD_FRAME.size, b"\0"))
    middle = RECORD_FRAME.size + header
    if magic != RECORD_MAGIC or middle + tensors != len(record):
        raise AdapterError(f"its {len(record):,} bytes are not the record of an adapter")
    return {HEADER: record[RECORD_FRAME.size : middle], TENSORS: record[middle:]}


def record_hash(record: bytes) -> str:
    """Return a record's SHA-256."""
    return hashlib.sha256(record).hexdigest()
