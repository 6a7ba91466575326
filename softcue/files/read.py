"""Careful reading: regular files of bounded size, and strict JSON."""

import contextlib
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softcue.errors import SoftcueError

JSON_LIMIT = 16 * 2**20  # bytes; no JSON file that we read is larger


def read_bytes(path: Path, error: type[SoftcueError], limit: int = JSON_LIMIT) -> bytes:
    """Read a regular file's bytes.

    Raises an `error` that names the file if it is missing, unreadable, no regular file, or above the limit.
    """
    with open_regular(path, error) as (descriptor, size):
        if size > limit:
            raise error(f"{path}: holds {size:,} bytes; expected at most {limit:,}")
        try:
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(size)
        except OSError as problem:
            raise error(f"{path}: cannot be read: {reason(problem)}") from problem


@contextlib.contextmanager
def open_regular(path: Path, error: type[SoftcueError]) -> Iterator[tuple[int, int]]:
    """Open a regular file, and yield its descriptor and its size in bytes.

    It never waits for a pipe, and never reads a device. Raises an `error` that names the file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as problem:
        raise error(f"{path}: {reason(problem)}") from problem
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise error(f"{path}: is not a file; expected one")
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def read_json(path: Path, error: type[SoftcueError]) -> Any:
    """Return what a JSON file holds, or raise an `error` that names the file if it is not strict JSON."""
    try:
        return parse_json(read_bytes(path, error))
    except ValueError as problem:
        raise error(f"{path}: {problem}") from problem


def parse_json(data: bytes) -> Any:
    """Return the value of strict JSON.

    Strict JSON is UTF-8 text without duplicated keys, NaN, infinities or lone surrogates, and nested at most
    as deep as Python allows. Raises ValueError that says what is wrong.
    """
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite)
        # A lone surrogate can be written as an escape; it fails when it is encoded.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("is nested too deeply to be ours") from None
    except UnicodeError:
        raise ValueError("is not UTF-8 text") from None
    except json.JSONDecodeError as problem:
        raise ValueError(f"is not JSON: {problem}") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"has {name[:80]!r} twice in one object; expected it once")
        found[name] = value
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"has the number {text[:40]}; expected a finite one")
    return value


def reason(error: Exception) -> str:
    """Return what the system says is wrong, without the error's number."""
    return getattr(error, "strerror", None) or str(error)
