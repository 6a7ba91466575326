"""Adapters that are damaged or hostile: refused by name, quickly and without memory."""

import random
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softcue.adapter import Adapter
from softcue.adapter.store import HEADER, TENSORS
from softcue.cues import Cue
from softcue.errors import AdapterError
from tests.adapter.adapter_cases import edit, edit_tensors, make, refusal, same


def put(**values: Any) -> Callable[[dict[str, Any]], None]:
    """An edit that sets header fields."""
    return lambda header: header.update(values)


def put_in(name: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    """An edit that sets fields of an object in the header."""
    return lambda header: header[name].update(values)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put(format_version=2), "format_version is 2; this softcue reads 1"),
        (put(format_version=True), "format_version is damaged"),
        (put(library_name="peft"), "not a softcue adapter .PEFT's, of type 'APT'"),
        (put(surprise=1), "'surprise' is not known"),
        (lambda h: h.pop("labels"), "labels is missing"),
        (put(method="magic"), "this softcue knows " + ", ".join(sorted(Cue.registry))),
        (put(method=["apt"]), "method is a list; expected a string"),
        (put(kind="guess"), "expected one of classify, score, choice, tag, multilabel"),
        (put(labels="ab"), "labels is 'ab'; expected a list of a string"),
        (put(labels=["ja"]), r"head.bias is \[2\]; its settings ask for \[1\]"),
        (put(limit=10**30), "limit is a huge number"),
        (put(pair=0), "pair is 0; expected true or false"),
        (put(subset=7), "subset is 7; expected a string or null"),
        (put(base_model_name_or_path="../../etc"), "base_model_name_or_path does not agree"),
        (put(inference_mode=1), "inference_mode does not agree"),
        (put(scores=[1]), "scores is a list; expected an object"),
        (put(columns=["text"]), "columns is a list; expected an object"),
        (put(columns={"text": ["a"]}), "columns: those of 'text' are no string"),
        (put(columns={"txt": "a"}), "columns: column names were given for 'txt'"),
        (put(columns={"template": "{"}), "columns: the template '{' has an unmatched brace"),
        (put(tensors_sha256="0" * 64), "its tensors are not those that were saved"),
        (put_in("config", length=10**9), "length is 1000000000; expected less than 4097"),
        (put_in("config", length=4_000), "settings need .* has"),
        (put_in("config", length=-5), "length is -5"),
        (put_in("config", length="3"), "config.length is '3'; expected a whole number"),
        (put_in("config", length=True), "config.length is True"),
        (put_in("config", reads="all"), "config.reads is 'all'; expected 'first' or"),
        (put_in("config", extra=1), "config: 'extra' is not known"),
        (lambda h: h["config"].pop("bias"), "config: bias is missing"),
        (put(config=None), "config is None; expected an object"),
        (put_in("dims", layers=10**6), "expected at most 1024 layers"),
        (put_in("dims", layers=0), "expected at most 1024 layers and sizes from 1"),
        (put_in("dims", heads=0), "sizes from 1"),
        (put_in("dims", heads=3), "a width that the heads divide"),
        (put_in("dims", hidden=10**18), "sizes from 1 to 65536"),
        (put_in("dims", pooler=None), "dims.pooler is None"),
    ],
)
def test_a_hostile_header_is_refused_by_field_before_memory_is_taken(tmp_path, change, reason):
    folder = make("apt").save(tmp_path / "acme" / "rte")
    edit(folder, change)
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(AdapterError, match=reason):
        Adapter.load(folder)
    assert time.perf_counter() - started < 2
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()
    refusal(folder, HEADER if "tensors are" not in reason and "head.bias" not in reason else TENSORS)


def entry(name: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    """An edit of one tensor's entry."""
    return lambda header: header[name].update(values)


def swap(header: dict[str, Any]) -> None:
    """Two tensors of one shape under each other's names."""
    a, b = header["cue.forget"], header["cue.remember"]
    a["data_offsets"], b["data_offsets"] = b["data_offsets"], a["data_offsets"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (entry("cue.remember", shape=[2**40, 2**40]), "its settings ask for"),
        (entry("cue.remember", shape=[2**70]), "no shape that it could have"),
        (entry("cue.remember", shape=[1.0, 16, 16]), "no shape that it could have"),
        (entry("cue.remember", shape=None), "no shape that it could have"),
        (entry("cue.remember", dtype="F64"), "is of type F64; expected F32"),
        (entry("cue.remember", dtype=[1]), "expected F32"),
        (entry("cue.remember", data_offsets=[0, 2**60]), "leave a gap, overlap"),
        (entry("cue.remember", data_offsets=[0, 1024]), "leave a gap, overlap"),
        (entry("cue.remember", data_offsets=[-4, 1020]), "leave a gap, overlap"),
        (entry("cue.remember", data_offsets=[0]), "two whole numbers"),
        (entry("cue.remember", more=1), "entry for cue.remember is damaged"),
        (lambda h: h.pop("head.bias"), "has no tensor head.bias"),
        (lambda h: h.update({"cue.../x": h["head.bias"]}), "a tensor 'cue.../x' that is not known"),
        (lambda h: h.update({"head.bias": 3}), "entry for head.bias is damaged"),
        (lambda h: h.update({"__metadata__": []}), "not an object"),
        (lambda h: h.pop("__metadata__"), "does not belong to the adapter_config.json"),
        (swap, "its tensors are not those that were saved"),
    ],
)
def test_a_hostile_safetensors_header_is_refused_before_memory_is_taken(tmp_path, change, reason):
    folder = make("gpc").save(tmp_path / "rte")
    edit_tensors(folder, change)
    tracemalloc.start()
    with pytest.raises(AdapterError, match=reason):
        Adapter.load(folder)
    assert tracemalloc.get_traced_memory()[1] < 2 * 2**20
    tracemalloc.stop()
    refusal(folder, TENSORS)


@pytest.mark.parametrize("file", [HEADER, TENSORS])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"null",
        b"\xff" * 64,
        b"[" * 200_000,
        b'{"a":' * 100_000,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        struct.pack("<Q", 17) + b'{"a":{},"a":{}}  ',
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, file, data):
    folder = make().save(tmp_path / "rte")
    (folder / file).write_bytes(data)
    refusal(folder, file)


def test_oversized_files_are_refused_unread(tmp_path):
    folder = make().save(tmp_path / "rte")
    with open(folder / TENSORS, "ab") as file:
        file.truncate(2**40)  # sparse
    assert "bytes of tensors" in refusal(folder, TENSORS)
    with open(folder / HEADER, "ab") as file:
        file.truncate(2**40)
    assert "expected at most" in refusal(folder, HEADER)


def test_places_without_an_adapter_are_refused(tmp_path):
    assert "no such folder" in refusal(tmp_path / "none")
    (tmp_path / "file").write_text("")
    assert "no such folder" in refusal(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "No such file" in refusal(tmp_path / "empty", HEADER)
    folder = make().save(tmp_path / "rte")
    (folder / TENSORS).unlink()
    assert "No such file" in refusal(folder, TENSORS)
    (folder / TENSORS).mkdir()
    assert "is not a file" in refusal(folder, TENSORS)
    with pytest.raises(AdapterError, match="NUL"):
        Adapter.load("a\0b")


def test_files_of_two_adapters_are_not_mixed_up(tmp_path):
    one, other = make().save(tmp_path / "one"), make(seed=4).save(tmp_path / "other")
    (one / TENSORS).write_bytes((other / TENSORS).read_bytes())
    assert "does not belong to the adapter_config.json" in refusal(one, TENSORS)


def test_a_header_edited_by_hand_is_noticed(tmp_path):
    folder = make().save(tmp_path / "one")
    edit(folder, put(scores={"accuracy": 1.0}), rehash=False)
    assert "edit neither" in refusal(folder, TENSORS)


def test_a_message_stays_one_short_line_whatever_the_file_says(tmp_path):
    folder = make("lora").save(tmp_path / "rte")
    edit(folder, put_in("config", sites=["query\n" * 10_000]))
    assert "config: LoraConfig: sites is" in refusal(folder, HEADER)
    edit(folder, put(kind="x" * 100_000, backbone="a\nb", labels=["\u0000" * 1000]))
    assert "expected no control characters" in refusal(folder, HEADER)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """A flipped bit, a cut, an insertion, a repeated piece, or a number in the text made larger."""
    at, sort = chance.randrange(len(data)), chance.randrange(6)
    if chance.random() < 0.5:
        at = min(at, chance.randrange(400))  # headers are at the front
    if sort == 0:
        return data[:at]
    if sort == 1:
        return data[:at] + chance.randbytes(chance.randrange(1, 9)) + data[at:]
    if sort == 2:
        return data[:at] + data[at + chance.randrange(1, 40) :]
    if sort == 3:
        return data[:at] + data[max(0, at - 50) : at] + data[at:]
    if sort == 4:
        digits = [i for i, byte in enumerate(data[:4000]) if 48 <= byte < 58]
        at = chance.choice(digits)
        return data[:at] + b"9" * chance.randrange(1, 30) + data[at:]
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def grow_interned() -> None:
    """Let Python's table of interned strings grow now: it takes 4 MB, and pathlib's names would do it."""
    kept, grown = [], 0
    while grown < 2**20:
        before = tracemalloc.get_traced_memory()[0]
        kept.append(sys.intern(f"interned {len(kept)}"))
        grown = tracemalloc.get_traced_memory()[0] - before


def fuzz(folder: Path, count: int, seed: int) -> None:
    """Mutated files are refused, or are the same adapter; memory stays near the files' size."""
    chance = random.Random(seed)
    originals = {method: make(method) for method in ("stp", "apt", "gpc", "lora")}
    saved = {method: adapter.save(folder / method) for method, adapter in originals.items()}
    files = {
        method: {name: (place / name).read_bytes() for name in (HEADER, TENSORS)}
        for method, place in saved.items()
    }
    refused = 0
    tracemalloc.start()
    grow_interned()
    for _ in range(count):
        method = chance.choice(list(saved))
        name = chance.choice((HEADER, TENSORS))
        place, data = saved[method], files[method][name]
        (place / name).write_bytes(mutate(data, chance))
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        try:
            assert same(Adapter.load(place), originals[method])
        except AdapterError as error:
            refused += 1
            text = str(error)
        else:
            text = f"{place} {name}"
        assert str(place) in text
        assert HEADER in text or TENSORS in text
        assert tracemalloc.get_traced_memory()[1] - before < 2 * 2**20
        (place / name).write_bytes(data)
    tracemalloc.stop()
    assert refused > 0.95 * count


def test_mutated_files_are_refused_or_equal(tmp_path):
    fuzz(tmp_path, 500, 1)


@pytest.mark.soak
def test_many_mutated_files_are_refused_or_equal(tmp_path):
    fuzz(tmp_path, 20_000, 2)
