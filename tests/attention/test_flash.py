"""What surrounds torch's flash attention, on the CPU: the kernel itself, which takes a GPU,
written out one example at a time.

That torch has the kernel under this name, takes what it is given and knows a way back, its meta device says.
"""

import pytest
import torch
from torch import Tensor

from softcue.attention import flash
from softcue.attention.attend import attend, attend_once
from softcue.attention.layout import Layout
from softcue.batch import Batch, Example, pack
from softcue.protocol import Prefix
from tests.contract import test_no_waiting
from tests.contract.cases import CLASSES, GRID, LENGTHS, METHODS, SEATS, logits, make_model
from tests.tiny import random_examples, tiny_encoder

RAGGED, HEADS, WIDTH, TOKENS = (9, 1, 33, 2, 12), 2, 8, 3
Called = list[tuple[int, int]]  # the longest queries and keys of each call


def plain(rows: Tensor, prefix: Prefix | None) -> bool:
    """What `takes` asks besides the device."""
    return prefix is None or prefix.plain


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Called:
    """The kernel written out, in place of torch's and of softcue's own."""
    found: Called = []

    def varlen(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        starts: Tensor,
        key_starts: Tensor,
        longest: int,
        key_longest: int,
        scale: float,
        rate: float,
    ) -> Tensor:
        assert starts.dtype == key_starts.dtype == torch.int32 and rate == 0
        assert (longest, key_longest) == (int(starts.diff().max()), int(key_starts.diff().max()))
        found.append((longest, key_longest))
        mixed = []
        for first, end, key_first, key_end in zip(
            starts[:-1], starts[1:], key_starts[:-1], key_starts[1:], strict=True
        ):
            keys, values = key[key_first:key_end].transpose(0, 1), value[key_first:key_end].transpose(0, 1)
            chance = (query[first:end].transpose(0, 1) @ keys.mT * scale).softmax(-1)
            mixed.append((chance @ values).transpose(0, 1))
        return torch.cat(mixed)

    monkeypatch.setattr(flash, "varlen", varlen)
    monkeypatch.setattr(flash, "takes_flash", plain)
    monkeypatch.setattr("softcue.attention.attend.has_kernels", lambda rows: False)
    return found


def packed(device: str = "cpu") -> Batch:
    return pack([Example([5] * n, [0] * n, [0]) for n in RAGGED], device=device)


def leaves(parts: int) -> tuple[Tensor, ...]:
    """Rows of so many parts, the prefixes' keys and values, and one query for each example; all
    with gradients.
    """
    generator = torch.Generator().manual_seed(parts)
    front = (len(RAGGED), TOKENS, HEADS, WIDTH)
    shapes = (sum(RAGGED), parts, HEADS, WIDTH), front, front, (len(RAGGED), HEADS, WIDTH)
    return tuple(torch.randn(shape, generator=generator).requires_grad_(True) for shape in shapes)


def same(ours: Tensor, theirs: Tensor, given: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    for mine, expected in zip(
        *(torch.autograd.grad((out * weight).sum(), given, allow_unused=True) for out in (ours, theirs)),
        strict=True,
    ):
        assert (mine is None) == (expected is None)
        if mine is not None and expected is not None:
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fronted", [False, True])
def test_every_row_sees_its_examples_prefix_and_rows(called: Called, fronted: bool) -> None:
    given, layout = leaves(3), Layout(packed())
    prefix = Prefix(given[1], given[2]) if fronted else None
    same(
        attend(given[0], layout, prefix, kernel="ragged"),
        attend(given[0], layout, prefix, kernel="products"),
        given,
    )
    assert called == [(max(RAGGED), max(RAGGED) + TOKENS * fronted)]


@pytest.mark.parametrize("fronted", [False, True])
def test_the_one_row_that_is_read_sees_them_too(called: Called, fronted: bool) -> None:
    given, layout = leaves(2), Layout(packed())
    prefix = Prefix(given[1], given[2]) if fronted else None
    same(
        *(
            attend_once(given[3], given[0], layout, prefix, kernel=kernel)
            for kernel in ("ragged", "products")
        ),
        given,
    )
    assert called == [(1, max(RAGGED) + TOKENS * fronted)]


def test_prefixes_of_several_lengths_and_rescored_logits_are_left_to_others(called: Called) -> None:
    given, layout = leaves(3), Layout(packed())
    shorter = Prefix(given[1], given[2], None, torch.tensor([0, 3, 1, 2, 3]))
    gated = Prefix(given[1], given[2], lambda logit, example: torch.nn.functional.logsigmoid(logit.float()))
    for prefix in (shorter, gated):
        same(
            attend(given[0], layout, prefix, kernel="ragged"),
            attend(given[0], layout, prefix, kernel="fused"),
            given,
        )
    assert not called


@pytest.mark.parametrize(("family", "method"), GRID)
def test_every_method_learns_the_same_on_every_family(called: Called, family: str, method: str) -> None:
    model, examples = make_model(tiny_encoder(family), method, len(CLASSES)), random_examples(family, LENGTHS)
    found = []
    for kernel in ("ragged", "products"):
        model.encoder.kernel = kernel
        made = torch.cat(logits(model, examples, SEATS))
        found.append((made, torch.autograd.grad(made.square().sum(), model.tuned(), allow_unused=True)))
    (ours, gradients), (theirs, expected) = found
    assert called or method == "spt" or family.startswith(("deberta", "mpnet")), (
        "these have logits that are more than products"
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for mine, other in zip(gradients, expected, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None and other is not None:
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_torch_takes_what_it_is_given_in_a_step_of_training(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    def takes(rows: Tensor, prefix: Prefix | None) -> bool:
        taken.append(rows.device.type == "meta" and rows.dtype == torch.bfloat16 and plain(rows, prefix))
        return taken[-1]

    monkeypatch.setattr(flash, "takes_flash", takes)
    monkeypatch.setattr(
        test_no_waiting, "tiny_encoder", lambda family: tiny_encoder(family).to(torch.bfloat16)
    )
    test_no_waiting.step("bert", method, ("classify", "classify"))
    assert any(taken) or method == "spt"


def test_it_takes_sixteen_bits_on_a_gpu_that_has_it_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rows:  # of a GPU that is not here
        def __init__(self, width: int, dtype: torch.dtype, device: str) -> None:
            self.shape, self.dtype, self.device = (5, 3, HEADS, width), dtype, torch.device(device)

    monkeypatch.setattr(flash, "_is_there", lambda device: device.index == 0)
    good = {"width": 64, "dtype": torch.bfloat16, "device": "cuda:0"}
    assert flash.takes_flash(Rows(**good), None)
    assert flash.takes_flash(Rows(**{**good, "dtype": torch.float16}), Prefix(torch.zeros(1), torch.zeros(1)))
    for change in (
        {"width": 60},
        {"width": 264},
        {"dtype": torch.float32},
        {"device": "cpu"},
        {"device": "cuda:1"},
    ):
        assert not flash.takes_flash(Rows(**{**good, **change}), None)
    assert not flash.takes_flash(Rows(**good), Prefix(torch.zeros(1), torch.zeros(1), None, torch.ones(1)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("fronted", [False, True])
def test_the_kernel_itself_is_near_what_float32_gives(fronted: bool) -> None:
    rows, key, value, query = (x.detach().to("cuda", torch.bfloat16).requires_grad_(True) for x in leaves(3))
    prefix, layout = Prefix(key, value) if fronted else None, Layout(packed("cuda"))
    assert flash.takes_flash(rows, prefix)
    exact = [x.detach().float().cpu().requires_grad_(True) for x in (rows, key, value, query)]
    slow = Prefix(exact[1], exact[2]) if fronted else None
    pairs = [
        (
            attend(rows, layout, prefix, kernel="ragged"),
            attend(exact[0], Layout(packed()), slow, kernel="products"),
        )
    ]
    once = (
        attend_once(query, rows[:, 1:], layout, prefix, kernel="ragged"),
        attend_once(exact[3], exact[0][:, 1:], Layout(packed()), slow),
    )
    for ours, theirs in (*pairs, once):
        torch.testing.assert_close(ours.float().cpu(), theirs, rtol=2**-5, atol=2**-5)
        mine = torch.autograd.grad(ours.float().square().sum(), rows, retain_graph=True)[0]
        other = torch.autograd.grad(theirs.square().sum(), exact[0], retain_graph=True)[0]
        torch.testing.assert_close(mine.float().cpu(), other, rtol=2**-4, atol=2**-4)
