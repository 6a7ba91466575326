"""adapter_config.json: everything of an adapter but its tensors.

It is written in a fixed order and checked field by field.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from softcue import __version__
from softcue.adapter.compact import PRECISIONS
from softcue.adapter.values import check_fields, decode, decode_record, encode, first_line, largest
from softcue.cues import Cue
from softcue.errors import AdapterError, DataError, SoftcueError
from softcue.files import parse_json
from softcue.heads import POOLINGS, THROUGH_POOLER
from softcue.kinds import KINDS
from softcue.options import hints_of
from softcue.readers.columns import sources_of

FORMAT = 1
CONFIG_LIMIT = 4 * 2**20  # bytes of the file
LABEL_LIMIT = 100_000
LAYER_LIMIT = 2**10
SIZE_LIMIT = 2**16  # of every other whole number that is a size
TOKEN_LIMIT = 2**20
TUNED = ("cue", "full")
ENCODER_PRECISIONS = ("float32", "bfloat16")
# The backbone of a fine-tuned checkpoint. The checkpoint has a folder of its own: if it lay beside our
# header, transformers would take the header for PEFT's.
OWN_ENCODER = "./encoder"
CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # names are printed on terminals and read as paths
FRAME = ("format_version", "library_name", "library_version", "tensors_sha256")
# the fields that PEFT's own files always have
PEFT = ("peft_type", "base_model_name_or_path", "revision", "task_type", "inference_mode")


def header_bytes(adapter: Any, tensors_sha256: str) -> bytes:
    """Return the file for an adapter whose tensors have this digest.

    The same adapter always gives the same bytes.
    """
    values = {name: encode(getattr(adapter, name), name) for name in header_names(type(adapter))}
    frame = dict(zip(FRAME, (FORMAT, "softcue", __version__, tensors_sha256), strict=True))
    header = {**frame, **_peft(values), **values}
    try:
        data = (json.dumps(header, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except UnicodeError:
        raise AdapterError(
            "a label or another string holds half a character (a lone surrogate); expected text"
        ) from None
    if len(data) > CONFIG_LIMIT:
        raise AdapterError(f"the header would hold {len(data):,} bytes; expected at most {CONFIG_LIMIT:,}")
    return data


def parse_header(cls: type, data: bytes) -> tuple[dict[str, Any], str]:
    """Return the fields of the dataclass `cls`, and the digest of the tensors.

    Raises AdapterError that names the first field that is wrong.
    """
    try:
        header = parse_json(data)
    except ValueError as error:
        raise AdapterError(str(error)) from error
    _check_frame(header)
    names = header_names(cls)
    check_fields(header, [*FRAME, *PEFT, *names], "the header")
    hints = hints_of(cls)
    values = {name: decode(hints[name], header[name], name) for name in names if name != "config"}
    if values["method"] not in Cue.registry:
        known = ", ".join(sorted(Cue.registry))
        raise AdapterError(
            f"method is {values['method'][:60]!r}; this softcue knows {known}; a method of your own needs "
            "--plugin FILE"
        )
    check_values(values)
    values["config"] = _config(values["method"], header["config"])
    for name, expected in _peft(values).items():
        if type(header[name]) is not type(expected) or header[name] != expected:
            raise AdapterError(f"{name} does not agree with the other fields; expected {expected!r}")
    return values, decode(str, header["tensors_sha256"], "tensors_sha256")


def header_names(cls: type) -> list[str]:
    """Return the names of the fields that the file holds: all that `cls` does not mark as not kept."""
    return [f.name for f in fields(cls) if f.metadata.get("kept", True)]


def check_values(values: dict[str, Any]) -> None:
    """Refuse what types cannot rule out.

    Raises one AdapterError that names everything that is wrong.
    """
    wrong = [problem for holds, problem in (*_rules(values), *_rules_of_names(values)) if not holds]
    if wrong:
        raise AdapterError("; ".join(wrong))


def _rules(values: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    """Yield whether each rule about sizes, kinds and labels holds, with the message if it does not."""
    dims, labels, kind, pooling = values["dims"], values["labels"], values["kind"], values["pooling"]
    tuned, limit, centre, spread = values["tuned"], values["limit"], values["centre"], values["spread"]
    backbone = values["backbone"]
    sizes = [dims.hidden, dims.heads, dims.embed, dims.ff, 1 if dims.embed_norm is None else dims.embed_norm]
    sound = 1 <= dims.layers <= LAYER_LIMIT and all(1 <= size <= SIZE_LIMIT for size in sizes)
    most = f"at most {LAYER_LIMIT} layers and sizes from 1 to {SIZE_LIMIT}"
    has_labels = kind not in KINDS or KINDS[kind].has_labels
    yield kind in KINDS, f"kind is {kind[:40]!r}; expected one of {', '.join(KINDS)}"
    yield pooling in POOLINGS, f"pooling is {pooling[:40]!r}; expected one of {', '.join(POOLINGS)}"
    precision = values["head_precision"]
    known = ", ".join(PRECISIONS)
    yield precision in PRECISIONS, f"head_precision is {precision[:40]!r}; expected one of {known}"
    yield tuned in TUNED, f"tuned is {tuned[:40]!r}; expected one of {', '.join(TUNED)}"
    yield sound, f"dims are {dims}; expected {most}"
    divides = dims.heads < 1 or dims.hidden % dims.heads == 0
    yield divides, f"dims are {dims}; expected a width that the heads divide"
    pools = pooling not in THROUGH_POOLER or dims.pooler
    yield pools, f"pooling is {pooling[:40]!r}; the backbone has no pooler, expected cls or mean"
    yield len(labels) <= LABEL_LIMIT, f"{len(labels)} labels; expected at most {LABEL_LIMIT}"
    yield len(set(labels)) == len(labels), "the labels repeat; expected each once"
    wanted = "at least one" if has_labels else "none"
    yield has_labels == bool(labels), f"{len(labels)} labels for kind {kind[:40]!r}; expected {wanted}"
    yield 1 <= limit <= TOKEN_LIMIT, f"limit is {limit}; expected 1 to {TOKEN_LIMIT} tokens"
    finite = math.isfinite(centre) and math.isfinite(spread) and spread >= 0
    yield finite, "centre and spread must be finite, and spread not negative"
    threshold = values["threshold"]
    chosen = 0 <= threshold <= 1 if kind in KINDS and KINDS[kind].has_threshold else threshold == 0.5
    yield chosen, f"threshold is {threshold} for kind {kind[:40]!r}; expected 0 to 1 for multilabel, else 0.5"
    below = values["unsure_below"]
    chances = 0 < below <= 1 and kind in KINDS and KINDS[kind].has_chances
    expected = "0 to 1, and 0 where answers have no one chance"
    yield below == 0 or chances, f"unsure_below is {below} for kind {kind[:40]!r}; expected {expected}"
    rows = values["rows"]
    yield rows is None or rows >= 1, f"rows is {rows}; expected null, or the most training rows"
    trained_in = values["precision"]
    possible = trained_in is None or trained_in in ENCODER_PRECISIONS
    expected = f"{' or '.join(ENCODER_PRECISIONS)}, or null where it is not known"
    yield possible, f"precision is {str(trained_in)[:40]!r}; expected {expected}"
    own = (tuned == "full") == (backbone == OWN_ENCODER) or tuned not in TUNED
    needed = repr(OWN_ENCODER) if tuned == "full" else "a name"
    yield own, f"tuned is {tuned[:40]!r} and backbone is {backbone[:60]!r}; expected {needed}"


def _rules_of_names(values: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    """Yield the same for names, which are printed on terminals and read as paths."""
    for name in ("backbone", "fingerprint", "task", "words", "measured", "encoding", "metric"):
        text = values[name] or ""
        yield not CONTROL.search(text), f"{name} is {text[:60]!r}; expected no control characters"
    wrong = _wrong_columns(values["columns"])
    yield wrong is None, f"columns: {wrong}"
    for name in ("backbone", "fingerprint"):
        yield bool(values[name]), f"{name} is empty; expected the name of what the adapter was trained on"


def _wrong_columns(columns: Mapping[str, Any]) -> str | None:
    """Say what is wrong with the names of columns, or None."""
    odd = next((name for name, line in columns.items() if not isinstance(line, str)), None)
    if odd is not None:
        return f"those of {odd[:40]!r} are no string; expected the names in one line of CSV"
    try:
        sources_of(columns)
    except DataError as error:
        return first_line(error)
    return None


def is_ours(header: Any) -> bool:
    """Say whether softcue wrote this header, of whatever version."""
    return isinstance(header, dict) and header.get("library_name") == "softcue"


def _check_frame(header: Any) -> None:
    """Refuse the header of another program or format, before any other difference is named."""
    if not is_ours(header):
        kind = header.get("peft_type") if isinstance(header, dict) else None
        other = f" (PEFT's, of type {kind[:40]!r}?)" if isinstance(kind, str) else ""
        raise AdapterError(f"is not a softcue adapter{other}; expected a folder that softcue wrote")
    version = header.get("format_version")
    if type(version) is not int or version != FORMAT:
        shown = version if type(version) is int and abs(version) < 2**63 else "damaged"
        raise AdapterError(
            f"format_version is {shown}; this softcue reads {FORMAT}: use the softcue that wrote it, or "
            "train again"
        )
    decode(str, header.get("library_version"), "library_version")


def _config(method: str, value: Any) -> Any:
    """Return the method's settings as its own dataclass."""
    try:
        config = decode_record(Cue.registry[method].Config, value, "config")
    except AdapterError:
        raise
    except SoftcueError as error:
        raise AdapterError(f"config: {first_line(error)}") from error
    biggest = max((largest(getattr(config, f.name)) for f in fields(config)), default=0)
    if biggest > SIZE_LIMIT:
        raise AdapterError(f"config has the number {biggest}; expected at most {SIZE_LIMIT}")
    return config


def _peft(values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that PEFT's own files have."""
    task_type = KINDS[values["kind"]].task_type if values["kind"] in KINDS else "FEATURE_EXTRACTION"
    held = (values["method"].upper(), values["backbone"], None, task_type, True)
    return dict(zip(PEFT, held, strict=True))
