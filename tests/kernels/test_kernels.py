"""The kernels in C++: they give what torch gives, dropout is dropout, and what one example gets
depends on no other.
"""

import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

import softcue.kernels
from softcue.attention.attend import attend, attend_once
from softcue.attention.layout import Layout
from softcue.batch import Example, pack
from softcue.kernels import has_kernels, library, thin
from softcue.kernels.gelu import gelu, gelu_and_slope
from softcue.kernels.matmul import lay_out, matmul, matmul_back, matmul_gelu
from softcue.kernels.norm import add_norm, fits_norm
from softcue.protocol import Prefix, Silent
from tests.tiny import random_examples, tiny_encoder

pytestmark = pytest.mark.skipif(
    library() is None, reason="the kernels were not built here: no compiler, or another processor"
)

T = TypeVar("T")
LENGTHS = (3, 70, 1, 41, 17)  # more than one block of queries, and rows that fill no vector
HEADS, PREFIX = 3, 5
WIDTHS = (12, 32)


def layout(lengths: tuple[int, ...] = LENGTHS) -> Layout:
    return Layout(pack([Example([5] * n, [0] * n, [0]) for n in lengths]))


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def prefix(width: int, count: int = len(LENGTHS), dtype: torch.dtype = torch.float32) -> Prefix:
    return Prefix(*drawn(2, count, PREFIX, HEADS, width, seed=1, dtype=dtype).unbind())


def gradients(of: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad((of.float() * drawn(*of.shape, seed=2)).sum(), leaves))


def on_one_thread_and_on_two(once: Callable[[], T]) -> list[T]:
    """What it gives each way."""
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(once())
    finally:
        torch.set_num_threads(threads)
    return found


@pytest.mark.parametrize("width", WIDTHS)
def test_bfloat16_is_rounded_once_on_the_way_in_and_once_on_the_way_out(width: int) -> None:
    """From the same rounded numbers, outputs are the float32 ones rounded; gradients differ by
    what their own input's rounding does.
    """
    low = [
        drawn(sum(LENGTHS), 3, HEADS, width, dtype=torch.bfloat16),
        *prefix(width, dtype=torch.bfloat16)[:2],
    ]
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        qkv, key, value = (x.to(dtype).requires_grad_() for x in low)
        mixed = attend(qkv, layout(), Prefix(key, value), kernel="ragged")
        assert mixed.dtype == dtype
        found.append([mixed.detach(), *gradients(mixed, [qkv, key, value])])
    for exact, rough in zip(*found, strict=True):
        torch.testing.assert_close(
            rough.float(),
            exact.to(torch.bfloat16).float(),
            rtol=2**-6,
            atol=2**-6 * float(exact.abs().mean()),
        )
    exact, rough = found[0][0], found[1][0]
    assert torch.equal(exact.to(torch.bfloat16), rough)


@pytest.mark.parametrize("dropped", [0.0, 0.3])
def test_an_example_gets_the_same_bits_alone_and_beside_others_on_one_thread_and_on_two(
    dropped: float,
) -> None:
    qkv, front = drawn(sum(LENGTHS), 3, HEADS, 32), prefix(32)

    def once() -> Tensor:
        torch.manual_seed(0)
        return attend(qkv, layout(), front, drop=dropped, kernel="ragged")

    found = on_one_thread_and_on_two(once)
    assert torch.equal(*found)
    if not dropped:
        first = LENGTHS[0]
        alone = attend(
            qkv[first : first + LENGTHS[1]],
            layout(LENGTHS[1:2]),
            Prefix(*(x[1:2] for x in front[:2])),
            kernel="ragged",
        )
        assert torch.equal(found[0][first : first + LENGTHS[1]], alone)


def chances(dropped: float, seed: int, rows: int = 400) -> Tensor:
    """(rows, HEADS, rows) the probabilities of one example after dropout, read off by values
    that are unit vectors.
    """
    qkv = drawn(rows, 3, HEADS, rows)
    qkv[:, 2] = torch.eye(rows)[:, None]
    torch.manual_seed(seed)
    return attend(qkv, layout((rows,)), drop=dropped, kernel="ragged").view(rows, HEADS, rows)


def test_dropout_drops_at_its_rate_scales_the_rest_and_repeats_with_the_seed() -> None:
    whole, dropped = chances(0.0, 0), chances(0.2, 1)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.8)
    count = kept.numel()
    assert abs(float(kept.float().mean()) - 0.8) < 5 * (0.16 / count) ** 0.5
    # neither neighbours nor seeds resemble
    for other in (kept.roll(1, 0), kept.roll(1, 1), kept.roll(1, 2), chances(0.2, 2) != 0):
        together = float((kept & other).float().mean())
        assert abs(together - 0.64) < 5 * (0.64 * 0.36 / count) ** 0.5
    assert torch.equal(dropped, chances(0.2, 1))
    rate_of_rows = kept.float().mean(-1)
    assert float(rate_of_rows.std()) == pytest.approx((0.16 / kept.shape[-1]) ** 0.5, rel=0.1)


def test_the_way_back_drops_what_the_way_there_dropped() -> None:
    """Finite differences at one seed, of every input."""
    leaves = [drawn(sum(LENGTHS), 3, HEADS, 12), *prefix(12)[:2]]
    weight = drawn(sum(LENGTHS), HEADS * 12, seed=2)

    def total(qkv: Tensor, key: Tensor, value: Tensor) -> Tensor:
        torch.manual_seed(3)
        return (attend(qkv, layout(), Prefix(key, value), drop=0.3, kernel="ragged") * weight).double().sum()

    at = [x.clone().requires_grad_() for x in leaves]
    grads = torch.autograd.grad(total(*at), at)
    for number, grad in enumerate(grads):
        step = drawn(*leaves[number].shape, seed=4 + number) * 1e-3
        moved = [[x + sign * step if i == number else x for i, x in enumerate(leaves)] for sign in (1, -1)]
        slope = (total(*moved[0]) - total(*moved[1])) / 2
        torch.testing.assert_close(slope, (grad * step).double().sum(), rtol=2e-3, atol=2e-4)


def test_one_row_of_each_example_may_look_alone() -> None:
    rows, front = drawn(sum(LENGTHS), 3, HEADS, 32).requires_grad_(), prefix(32)
    first = layout().starts[:-1]
    every = attend(rows, layout(), front, kernel="ragged")[first]
    once = attend_once(rows[first, 0], rows[:, 1:], layout(), front, kernel="ragged")
    assert torch.equal(every, once)
    for one, other in zip(gradients(every, [rows]), gradients(once, [rows]), strict=True):
        torch.testing.assert_close(one, other)


def test_a_prefix_that_examples_share_is_read_where_it_lies() -> None:
    qkv, one = drawn(sum(LENGTHS), 3, HEADS, 32), prefix(32, count=1)
    shared = Prefix(*(x.expand(len(LENGTHS), -1, -1, -1) for x in one[:2]))
    copied = Prefix(*(x.contiguous() for x in shared[:2]))
    assert torch.equal(
        attend(qkv, layout(), shared, kernel="ragged"), attend(qkv, layout(), copied, kernel="ragged")
    )


@pytest.mark.parametrize("family", ["mpnet", "modernbert"])
def test_families_whose_logits_know_distances_are_not_padded_either(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, batch = tiny_encoder(family), pack(random_examples(family, (9, 30, 14)))
    encoder.kernel = "products"
    padded = encoder(batch, Silent())[0]
    encoder.kernel = "ragged"
    monkeypatch.setattr("softcue.attention.attend.ToBuckets", None)
    torch.testing.assert_close(encoder(batch, Silent())[0], padded, atol=1e-5, rtol=0)


def test_what_is_not_a_number_stays_in_its_example() -> None:
    qkv = drawn(sum(LENGTHS), 3, HEADS, 32)
    qkv[LENGTHS[0], 1] = torch.nan
    wrong = attend(qkv, layout(), kernel="ragged").isnan().any(-1)
    assert wrong[LENGTHS[0] : LENGTHS[0] + LENGTHS[1]].all() and int(wrong.sum()) == LENGTHS[1]


def test_large_logits_neither_overflow_nor_vanish() -> None:
    qkv = drawn(40, 3, HEADS, 32).requires_grad_()
    scaled = qkv * torch.tensor([300.0, 300.0, 1.0])[:, None, None]
    found = [attend(scaled, layout((40,)), kernel=kernel) for kernel in ("ragged", "products")]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    assert all(x.isfinite().all() for x in gradients(found[0], [qkv]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [24, 30, 384])
@pytest.mark.parametrize("rows", [1, 50])
def test_norm_of_a_sum_is_torchs(rows: int, width: int, dtype: torch.dtype) -> None:
    norm = nn.LayerNorm(width, eps=1e-5).requires_grad_(False).to(dtype)
    norm.weight.copy_(drawn(width, seed=3)), norm.bias.copy_(drawn(width, seed=4))
    x, residual = (drawn(rows, width, seed=i, dtype=dtype).requires_grad_() for i in (0, 1))
    assert fits_norm(x, residual, norm, 0.0)
    ours, theirs = add_norm(x, residual, norm, 0.0), norm(residual + x)
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2**-6, "atol": 2**-6}
    torch.testing.assert_close(ours, theirs, **close)
    for one, other in zip(gradients(ours, [x, residual]), gradients(theirs, [x, residual]), strict=True):
        torch.testing.assert_close(one, other, **close)


def test_dropout_before_a_norm_is_the_same_both_ways() -> None:
    """Where the residual's gradient is as it would be, x's is that times a factor: 0, or what
    the rest was scaled by.
    """
    norm = nn.LayerNorm(64).requires_grad_(False)
    x, residual = drawn(200, 64).requires_grad_(), drawn(200, 64, seed=1).requires_grad_()
    torch.manual_seed(0)
    normed = add_norm(x, residual, norm, 0.3)
    to_x, to_residual = gradients(normed, [x, residual])
    factor = to_x / to_residual
    kept = factor > 0.5
    torch.testing.assert_close(factor[kept], torch.full_like(factor[kept], 1 / 0.7), rtol=1e-4, atol=0)
    assert not to_x[~kept].any() and abs(float(kept.float().mean()) - 0.7) < 5 * (0.21 / kept.numel()) ** 0.5
    again = norm(residual + x * kept / 0.7)
    torch.testing.assert_close(normed, again, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(to_residual, gradients(again, [residual])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_and_its_slope_are_those_of_the_normal_distribution(dtype: torch.dtype) -> None:
    x = (
        torch.cat([torch.linspace(-15, 15, 20_001), torch.tensor([0.0, -100.0, 100.0])])
        .to(dtype)
        .requires_grad_()
    )
    exact = x.detach().double().requires_grad_()
    ours, theirs = gelu(x), nn.functional.gelu(exact)
    close = {"rtol": 1e-6, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2**-8, "atol": 1e-6}
    torch.testing.assert_close(ours.double(), theirs, **close)
    slopes = [torch.autograd.grad(y.sum(), leaf)[0].double() for y, leaf in ((ours, x), (theirs, exact))]
    torch.testing.assert_close(*slopes, **close)
    with torch.no_grad():
        assert torch.equal(gelu(x), ours) and gelu(torch.tensor([torch.nan], dtype=dtype)).isnan()


# the last: blocks of rows, and of depth
SHAPES = [(1, 5, 3), (6, 8, 16), (7, 24, 40), (13, 385, 17), (400, 500, 30), (769, 800, 100)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_is_torchs_whatever_is_done_with_it(shape: tuple[int, int, int]) -> None:
    rows, inputs, outputs = shape
    x, weight, bias = (
        drawn(rows, 2 * inputs)[:, :inputs],
        drawn(outputs, inputs, seed=1),
        drawn(outputs, seed=2),
    )
    beside, into = drawn(rows, outputs, seed=3), drawn(rows, 2 * inputs, seed=4)[:, inputs:]
    grad, factor = drawn(rows, outputs, seed=5), drawn(rows, inputs, seed=6)
    near = {"rtol": 1e-4, "atol": 1e-6 * (inputs * outputs) ** 0.5 + 1e-5}
    plain = nn.functional.linear(x, weight)
    torch.testing.assert_close(matmul(x, weight, None), plain, **near)
    torch.testing.assert_close(matmul(x, weight, bias), plain + bias, **near)
    torch.testing.assert_close(matmul(x, weight, None, beside), plain + beside, **near)
    torch.testing.assert_close(matmul(x, weight, bias, beside), plain + bias + beside, **near)
    torch.testing.assert_close(matmul_back(grad, weight), grad @ weight, **near)
    torch.testing.assert_close(matmul_back(grad, weight, into), grad @ weight + into, **near)
    torch.testing.assert_close(matmul_back(grad, weight, None, factor), (grad @ weight) * factor, **near)
    torch.testing.assert_close(
        matmul_back(grad, weight, into, factor), (grad @ weight + into) * factor, **near
    )
    slope = torch.empty_like(plain)
    for ours, theirs in zip(
        (matmul_gelu(x, weight, bias, slope), slope), gelu_and_slope(plain + bias), strict=True
    ):
        torch.testing.assert_close(ours, theirs, **near)
    assert torch.equal(matmul_gelu(x, weight, bias), gelu(matmul(x, weight, bias)))
    laid = lay_out(weight)
    assert torch.equal(matmul(x, weight, bias, beside, laid), matmul(x, weight, bias, beside))
    assert torch.equal(matmul_gelu(x, weight, bias, None, laid), matmul_gelu(x, weight, bias))


def test_a_row_gets_the_same_bits_alone_and_beside_others_on_one_thread_and_on_two() -> None:
    x, weight, bias = drawn(800, 500), drawn(70, 500, seed=1), drawn(70, seed=2)
    for once in (lambda x: matmul(x, weight, bias), lambda x: matmul_back(x, weight.mT.contiguous())):
        found = on_one_thread_and_on_two(lambda once=once: once(x))
        assert torch.equal(*found)
        for few in (slice(0, 1), slice(3, 10), slice(390, 397), slice(796, 800)):
            assert torch.equal(once(x[few].contiguous()), found[0][few])


def test_what_is_not_a_number_stays_in_its_row() -> None:
    x = drawn(9, 20)
    x[4, 7] = torch.nan
    wrong = matmul(x, drawn(19, 20, seed=1), None).isnan()
    assert wrong[4].all() and int(wrong.sum()) == 19


# seat, first row, one past the last: more than one block, and a seat that is away
RUNS = ((2, 0, 70), (0, 70, 71), (3, 71, 150))
SCALE = (0.5, 9.0, 2.0, 1.5)


def thin_case(kind: str, rank: int) -> list[Tensor]:
    """y, x, A and B of four seats; y is a part of wider rows."""
    rows, tables = (torch.float32 if name == "f" else torch.bfloat16 for name in kind)
    y = drawn(150, 3 * 40, dtype=rows)[:, 40:80]
    return [
        y,
        drawn(150, 24, seed=1, dtype=rows),
        drawn(4, 24, rank, seed=2, dtype=tables),
        drawn(4, rank, 40, seed=3, dtype=tables),
    ]


def slow_thin(y: Tensor, x: Tensor, shrink: Tensor, grow: Tensor) -> Tensor:
    """In float32, each run by itself."""
    y, x, shrink, grow = (part.float() for part in (y, x, shrink, grow))
    return torch.cat([y[a:b] + SCALE[seat] * x[a:b] @ shrink[seat] @ grow[seat] for seat, a, b in RUNS])


@pytest.mark.parametrize("rank", [1, 8, 19])
@pytest.mark.parametrize("kind", ["ff", "bb", "bf"])
def test_a_thin_product_is_each_seats_own_and_so_are_its_gradients(kind: str, rank: int) -> None:
    ours = [part.detach().requires_grad_() for part in thin_case(kind, rank)]
    theirs = [part.detach().float().requires_grad_() for part in thin_case(kind, rank)]
    assert thin.fits_thin(*ours[:3])
    found = [thin.plus_thin(*ours, torch.tensor(SCALE), RUNS), slow_thin(*theirs)]
    near = 2**-7 if "b" in kind else 1e-5
    grads = [gradients(made, leaves) for made, leaves in zip(found, (ours, theirs), strict=True)]
    for one, other in [(found[0], found[1]), *zip(*grads, strict=True)]:
        assert (one.float() - other).norm() < near * other.norm()
    assert not grads[0][2][1].any() and not grads[0][3][1].any()


def test_without_a_way_back_a_thin_product_is_added_where_it_belongs() -> None:
    wide = drawn(150, 3 * 40)
    before, (_, x, shrink, grow) = wide.clone(), thin_case("ff", 8)
    with torch.no_grad():
        thin.plus_thin(wide[:, 40:80], x, shrink, grow, torch.tensor(SCALE), RUNS)
    torch.testing.assert_close(
        wide[:, 40:80], slow_thin(before[:, 40:80], x, shrink, grow), rtol=1e-5, atol=1e-4
    )
    assert torch.equal(wide[:, :40], before[:, :40]) and torch.equal(wide[:, 80:], before[:, 80:])


def test_gradients_of_thin_tables_do_not_depend_on_threads() -> None:
    def once() -> list[Tensor]:
        leaves = [part.requires_grad_() for part in thin_case("ff", 8)[1:]]
        return gradients(thin.plus_thin(thin_case("ff", 8)[0], *leaves, torch.tensor(SCALE), RUNS), leaves)

    assert all(torch.equal(one, other) for one, other in zip(*on_one_thread_and_on_two(once), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_may_learn_and_stay_in_float32_beside_bfloat16(dtype: torch.dtype) -> None:
    norm = nn.LayerNorm(30)
    with torch.no_grad():
        norm.weight.copy_(drawn(30, seed=3)), norm.bias.copy_(drawn(30, seed=4))
    x, residual = drawn(50, 30, dtype=dtype).requires_grad_(), drawn(50, 30, seed=1).requires_grad_()
    assert fits_norm(x, residual, norm, 0.0)
    leaves = [x, residual, norm.weight, norm.bias]
    found = [add_norm(x, residual, norm, 0.0), norm(residual + x)]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)
    assert found[0].dtype == torch.float32
    for one, other in zip(*(gradients(made, leaves) for made in found), strict=True):
        torch.testing.assert_close(one, other, rtol=2**-8 if one.dtype == torch.bfloat16 else 1e-4, atol=1e-5)


def test_what_is_of_another_kind_is_left_to_torch() -> None:
    x, norm = drawn(4, 24), nn.LayerNorm(24)
    assert fits_norm(x, x, norm, 0.1) and fits_norm(x.bfloat16(), x, norm, 0.1)
    assert (
        not fits_norm(x.double(), x, norm, 0.1)
        and not fits_norm(x, x.bfloat16(), norm, 0.1)
        and not fits_norm(x, x, norm, 1.0)
    )
    assert not fits_norm(x, x, nn.LayerNorm(24, bias=False), 0.1) and not has_kernels(x.to("meta"))


def test_without_a_build_attention_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    qkv, front = drawn(sum(LENGTHS), 3, HEADS, 32), prefix(32)
    built = attend(qkv, layout(), front, kernel="ragged")
    monkeypatch.setattr(softcue.kernels, "library", lambda: None)
    without = attend(qkv, layout(), front, kernel="ragged")
    assert torch.equal(without, attend(qkv, layout(), front, kernel="products"))
    torch.testing.assert_close(built, without, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_build_with_vectors_of_the_other_width_does_all_this_too(tmp_path: Path) -> None:
    """A processor with AVX2 runs what one with AVX-512 would, and the other way round."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ here")
    root = Path(__file__).resolve().parents[2]
    modules = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "ext-modules"
    ]
    (narrow,) = (module for module in modules if module["name"].endswith("x86_64_v3"))
    width = [] if torch.backends.cpu.get_cpu_capability() == "AVX512" else ["-DWIDE", "-Wno-psabi"]
    build = tmp_path / "kernels.so"
    arguments = [
        *narrow["extra-compile-args"],
        *width,
        "-fPIC",
        "-shared",
        *narrow["sources"],
        "-o",
        str(build),
    ]
    subprocess.run([compiler, *arguments], cwd=root, check=True)
    own = [str(root / "tests" / name) for name in ("kernels/test_kernels.py", "attention/test_attention.py")]
    words = f"""
        import ctypes, pytest, softcue.kernels
        build = ctypes.CDLL({str(build)!r})
        softcue.kernels.library = lambda: build
        flags = ["-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist"]
        raise SystemExit(pytest.main([*flags, *{own!r}]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(words)], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
