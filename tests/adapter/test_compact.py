"""Heads in fewer bytes: what the file holds, what it stands for, and what is refused."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from softcue.adapter import Adapter
from softcue.adapter.compact import SCALE, WEIGHT, as_stored, scales, stored
from softcue.adapter.store import HEADER, TENSORS
from softcue.adapter.tensors import tensors_digest
from softcue.errors import AdapterError
from tests.adapter.adapter_cases import edit, edit_tensors, make, refusal, same

SMALL = ("float16", "int8")


def large(labels: int = 150, **changed: object) -> Adapter:
    torch.manual_seed(0)
    head = {"weight": torch.randn(labels, 16) * torch.rand(labels, 1).exp2(), "bias": torch.randn(labels)}
    return make("probe", labels=tuple(map(str, range(labels))), head=head, **changed)


@pytest.mark.parametrize("precision", ["float32", *SMALL])
def test_a_head_comes_back_as_it_was_rounded_and_is_saved_in_the_same_bytes(tmp_path, precision):
    adapter = large().with_head(precision)
    folder = adapter.save(tmp_path / "one")
    loaded = Adapter.load(folder)
    assert same(loaded, adapter) and loaded.head_precision == precision
    assert all(tensor.dtype == torch.float32 for tensor in loaded.head.values())
    again = loaded.save(tmp_path / "two")
    for name in (HEADER, TENSORS):
        assert (folder / name).read_bytes() == (again / name).read_bytes()
    assert same(Adapter.from_files(adapter.to_files("there"), "here"), adapter)


def test_files_shrink_to_a_half_and_a_quarter(tmp_path):
    adapter = replace(large(), head={"weight": torch.randn(150, 16), "bias": torch.zeros(150)})
    size = {p: len(adapter.with_head(p).to_files("x")[TENSORS]) for p in ("float32", *SMALL)}
    weight = 150 * 16 * 4
    assert abs(size["float32"] - size["float16"] - weight / 2) < 64
    assert abs(size["float32"] - size["int8"] - weight * 3 / 4 + 600) < 128  # less a scale for each label


def test_the_file_is_what_other_readers_of_the_format_expect(tmp_path):
    folder = large().with_head("int8").save(tmp_path / "one")
    held = load_file(folder / TENSORS)
    assert held[WEIGHT].dtype == torch.int8 and held[SCALE].dtype == torch.float32
    close = held[WEIGHT].float() * held[SCALE][:, None]
    torch.testing.assert_close(close, Adapter.load(folder).head["weight"], rtol=0, atol=0)


@pytest.mark.parametrize("precision", SMALL)
@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-38, 1e-31, 2e-30, 1e-8, 1.0, 1e4])
def test_rounding_twice_is_rounding_once(precision, size):
    for seed in range(20):
        weight = torch.randn(30, 7, generator=torch.Generator().manual_seed(seed)) * size
        once = as_stored(weight, precision)
        assert torch.equal(as_stored(once, precision), once)
        held, again = (stored({WEIGHT: one}, precision) for one in (weight, once))
        assert all(torch.equal(held[name], again[name]) for name in held)


def test_int8_is_within_half_a_step():
    weight = torch.randn(40, 30)
    off = (as_stored(weight, "int8") - weight).abs().amax(-1)
    assert (off <= scales(weight) * 0.5001).all()
    assert stored({WEIGHT: weight}, "int8")[WEIGHT].abs().amax(-1).eq(127).all()


@pytest.mark.parametrize("precision", SMALL)
def test_a_head_that_the_file_could_not_hold_is_not_saved(precision):
    with pytest.raises(AdapterError, match="has values that it cannot represent"):
        large(head_precision=precision).to_files("x")
    most = torch.full((150, 16), torch.finfo(torch.float32).max)
    huge = replace(large(), head={"weight": most, "bias": torch.zeros(150)}).with_head(precision)
    with pytest.raises(AdapterError, match="not finite"):
        huge.to_files("x")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: h.update(head_precision="int4"), "head_precision is 'int4'; expected one of float32, "),
        (lambda h: h.update(head_precision=8), "head_precision is 8; expected a string"),
        (lambda h: h.pop("head_precision"), "head_precision is missing"),
        (lambda h: h.update(head_precision="float16"), "a tensor 'head.scale' that is not known"),
        (lambda h: h.update(head_precision="float32"), "a tensor 'head.scale' that is not known"),
    ],
)
def test_a_hostile_header_is_refused(tmp_path, change, reason):
    folder = large().with_head("int8").save(tmp_path / "rte")
    edit(folder, change)
    assert reason in refusal(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: h[WEIGHT].update(dtype="F32"), "head.weight is of type F32; expected I8"),
        (lambda h: h[WEIGHT].update(dtype="U8"), "head.weight is of type U8; expected I8"),
        (lambda h: h["head.bias"].update(dtype="I8"), "head.bias is of type I8; expected F32"),
        (lambda h: h[SCALE].update(shape=[150, 16]), "head.scale is [150, 16]; its settings ask for [150]"),
        (lambda h: h.pop(SCALE), "has no tensor head.scale"),
        (lambda h: h[WEIGHT].update(data_offsets=[1200, 1200 + 9600]), "leave a gap, overlap or do not fit"),
        (lambda h: h[SCALE].update(data_offsets=[600, 750]), "leave a gap, overlap or do not fit"),
    ],
)
def test_a_hostile_safetensors_header_is_refused(tmp_path, change, reason):
    folder = large().with_head("int8").save(tmp_path / "rte")
    edit_tensors(folder, change)
    assert reason in refusal(folder, TENSORS)


def forge(folder, change) -> str:
    """Numbers that the hashes agree with, as an attacker would write them."""
    tensors = load_file(folder / TENSORS)
    change(tensors)
    save_file(tensors, folder / TENSORS)
    edit(folder, lambda header: header.update(tensors_sha256=tensors_digest(tensors)))
    return refusal(folder, TENSORS)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "not finite"),
        (float("inf"), "not finite"),
        (-1.0, "not positive"),
        (0.0, "not positive"),
        (3e38, "not as int8 is written"),
        (1 / 3, "not as int8 is written"),
    ],
)
def test_a_hostile_scale_is_refused(tmp_path, value, reason):
    folder = large().with_head("int8").save(tmp_path / "rte")
    assert reason in forge(folder, lambda tensors: tensors[SCALE].__setitem__(3, value))


def test_numbers_that_rounding_does_not_give_are_refused(tmp_path):
    folder = large().with_head("int8").save(tmp_path / "rte")
    assert "not as int8" in forge(folder, lambda tensors: tensors[WEIGHT].__setitem__((0, 0), -128))
    folder = large().with_head("float16").save(tmp_path / "half")
    assert "not finite" in forge(folder, lambda tensors: tensors[WEIGHT].__setitem__((0, 0), float("inf")))
