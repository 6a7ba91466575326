"""Attention over packed rows against softmax written one example, one head and one row at a
time, gradients included.
"""

import random
from collections.abc import Callable, Sequence
from itertools import accumulate

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from softcue.attention.attend import KERNELS, attend
from softcue.attention.distance import ByDistance, distances
from softcue.attention.layout import FIXED, MEMBERS, Layout
from softcue.batch import Batch, Example, pack
from softcue.protocol import Prefix

HEADS, WIDTH, PREFIX = 2, 4, 3
RAGGED = (9, 1, 33, 40, 2, 12, 31, 250)  # several buckets, some with padding
COUNTS = (0, 3, 1, 2, 3, 0, 1, 3)
ragged = st.lists(st.integers(1, 300), min_size=1, max_size=8)
kernels = pytest.mark.parametrize("kernel", sorted(KERNELS))


def packed(lengths: Sequence[int]) -> Batch:
    return pack([Example([5] * n, [0] * n, [0]) for n in lengths])


def inputs(lengths: Sequence[int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """qkv of the rows, and keys and values of prefixes, all with gradients."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (
        (sum(lengths), 3, HEADS, WIDTH),
        (len(lengths), PREFIX, HEADS, WIDTH),
        (len(lengths), PREFIX, HEADS, WIDTH),
    )
    qkv, key, value = (torch.randn(shape, generator=generator).requires_grad_(True) for shape in shapes)
    return qkv, key, value


def gate(logit: Tensor, example: Tensor) -> Tensor:
    """A rescore that depends on the logit and on whose it is."""
    return F.logsigmoid(logit.float() * (1 + example.view(-1, 1, 1, 1)))


def slow(
    lengths: Sequence[int],
    leaves: tuple[Tensor, Tensor, Tensor],
    counts: Sequence[int] | None = None,  # how much of each example's prefix is there
    gated: bool = False,
    # of a head, and of a query row and a key row within an example
    bias: Callable[[int, int, int], float] | None = None,
    scale: float = WIDTH**-0.5,
) -> Tensor:
    qkv, prefix_key, prefix_value = leaves
    rows, starts = [], [0, *accumulate(lengths)]
    for example, length in enumerate(lengths):
        count = 0 if counts is None else counts[example]
        for t in range(length):
            heads = []
            for head in range(HEADS):
                text = qkv[starts[example] : starts[example + 1], :, head]
                keys = torch.cat([prefix_key[example, :count, head], text[:, 1]])
                values = torch.cat([prefix_value[example, :count, head], text[:, 2]])
                logits = keys @ text[t, 0] * scale
                front, rest = logits[:count], logits[count:]
                if gated:
                    front = front + F.logsigmoid(front * (1 + example))
                if bias is not None:
                    rest = rest + torch.tensor([bias(head, t, other) for other in range(length)])
                heads.append(torch.cat([front, rest]).softmax(0) @ values)
            rows.append(torch.cat(heads))
    return torch.stack(rows)


def compare(ours: Tensor, theirs: Tensor, leaves: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    found = [torch.autograd.grad((out * weight).sum(), leaves, allow_unused=True) for out in (ours, theirs)]
    for mine, expected in zip(*found, strict=True):
        if expected is None or not expected.any():
            assert mine is None or not mine.any()
        else:
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)


@kernels
def test_every_row_sees_the_rows_of_its_own_example(kernel: str) -> None:
    leaves = inputs(RAGGED)
    compare(attend(leaves[0], Layout(packed(RAGGED)), kernel=kernel), slow(RAGGED, leaves), leaves)


@kernels
@pytest.mark.parametrize("lengths", [RAGGED, (6,), (5, 5), (1, 1, 1)], ids=str)
def test_every_row_sees_its_examples_prefix(lengths: tuple[int, ...], kernel: str) -> None:
    leaves = inputs(lengths)
    ours = attend(leaves[0], Layout(packed(lengths)), Prefix(leaves[1], leaves[2]), kernel=kernel)
    compare(ours, slow(lengths, leaves, [PREFIX] * len(lengths)), leaves)


@kernels
def test_a_shorter_prefix_ends_where_it_ends(kernel: str) -> None:
    leaves = inputs(RAGGED)
    prefix = Prefix(leaves[1], leaves[2], None, torch.tensor(COUNTS))
    compare(
        attend(leaves[0], Layout(packed(RAGGED)), prefix, kernel=kernel), slow(RAGGED, leaves, COUNTS), leaves
    )


@kernels
def test_rescore_sees_scaled_logits_of_its_own_example_and_its_gradient_flows(kernel: str) -> None:
    leaves = inputs(RAGGED)
    prefix = Prefix(leaves[1], leaves[2], gate, torch.tensor(COUNTS))
    ours = attend(leaves[0], Layout(packed(RAGGED)), prefix, scale=0.3, kernel=kernel)
    compare(ours, slow(RAGGED, leaves, COUNTS, gated=True, scale=0.3), leaves)


@kernels
@pytest.mark.parametrize("with_prefix", [False, True])
def test_a_bias_between_text_rows_leaves_the_prefix_alone(kernel: str, with_prefix: bool) -> None:
    lengths = RAGGED[:-1]
    leaves = inputs(lengths)
    prefix = Prefix(leaves[1], leaves[2]) if with_prefix else None

    def distance(query: Tensor, key: Tensor, bucket: object) -> Tensor:
        place = torch.arange(query.shape[2])
        return -0.1 * (place[:, None] - place).abs()[None, None]

    ours = attend(leaves[0], Layout(packed(lengths)), prefix, distance, kernel=kernel)
    counts = [PREFIX * with_prefix] * len(lengths)
    compare(ours, slow(lengths, leaves, counts, bias=lambda head, t, other: -0.1 * abs(t - other)), leaves)


@kernels
@pytest.mark.parametrize("front", ["nothing", "prefixes", "gated prefixes"])
@pytest.mark.parametrize(
    ("heads", "reach"), [(HEADS, None), (1, None), (1, 3)], ids=["each head its own", "all alike", "a window"]
)
def test_a_bias_by_distance_is_added_between_text_rows(
    kernel: str, front: str, heads: int, reach: int | None
) -> None:
    lengths, counts = RAGGED[:-1], COUNTS[:-1]
    leaves = inputs(lengths)
    apart = distances(max(lengths), torch.device("cpu"))
    table = torch.randn(heads, len(apart), generator=torch.Generator().manual_seed(2))
    if reach is not None:
        table = table.masked_fill(apart.abs() > reach, -torch.inf)
    prefix = (
        None
        if front == "nothing"
        else Prefix(leaves[1], leaves[2], gate if front == "gated prefixes" else None, torch.tensor(counts))
    )
    ours = attend(
        leaves[0], Layout(packed(lengths)), prefix, ByDistance(table, hides=reach is not None), kernel=kernel
    )

    def bias(head: int, query: int, key: int) -> float:
        return float(table[head % heads, apart.tolist().index(key - query)])

    seen = [0] * len(lengths) if prefix is None else counts
    compare(ours, slow(lengths, leaves, seen, gated=front == "gated prefixes", bias=bias), leaves)


@kernels
def test_a_bias_by_distance_may_learn(kernel: str) -> None:
    qkv, layout, apart = (
        inputs(RAGGED)[0],
        Layout(packed(RAGGED)),
        distances(max(RAGGED), torch.device("cpu")),
    )
    slope = torch.tensor(-0.1, requires_grad=True)
    table = (slope * apart.abs()).expand(HEADS, -1)

    def written_out(query: Tensor, key: Tensor, bucket: object) -> Tensor:
        place = torch.arange(query.shape[2])
        return slope * (place[:, None] - place).abs()[None, None]

    compare(
        attend(qkv, layout, None, ByDistance(table), kernel=kernel),
        attend(qkv, layout, None, written_out),
        (qkv, slope),
    )


@given(lengths=ragged)
@settings(max_examples=40, deadline=None)
def test_buckets_hold_every_row_once_and_little_padding(lengths: list[int]) -> None:
    layout = Layout(packed(lengths))
    assert sorted(torch.cat([bucket.example for bucket in layout.buckets]).tolist()) == list(
        range(len(lengths))
    )
    starts = [0, *accumulate(lengths)]
    for bucket in layout.buckets:
        pad = torch.zeros(bucket.row.shape, dtype=torch.bool) if bucket.pad is None else bucket.pad
        for example, rows, empty in zip(bucket.example.tolist(), bucket.row, pad, strict=True):
            assert rows[~empty].tolist() == list(range(starts[example], starts[example + 1]))
        own = sorted(lengths[example] for example in bucket.example.tolist())
        # before the last one came, were they of a good size?
        allowed = FIXED if (len(own) - 1) % MEMBERS == 0 else 2 * FIXED
        assert sum(own[-1] ** 2 - length**2 for length in own) <= allowed, (
            "the padding costs more than a bucket of its own would"
        )


def test_buckets_of_random_batches_have_few_sizes() -> None:
    draw = random.Random(0)
    batches = [[int(draw.lognormvariate(2.6, 0.6)) + 2 for _ in range(32)] for _ in range(100)]
    sizes = {bucket.row.shape for lengths in batches for bucket in Layout(packed(lengths)).buckets}
    assert len(sizes) < 50, "a product is made anew for each size; 151 where buckets may have any"


def test_a_batch_of_one_length_is_laid_out_as_it_is() -> None:
    assert all(Layout(packed([length] * count)).plain for length in (1, 7, 30) for count in (1, 3))


def test_dropout_keeps_the_mean_of_what_is_seen() -> None:
    qkv, key, value = inputs((7, 9))
    prefix, layout = Prefix(key, value), Layout(packed((7, 9)))
    calm = attend(qkv, layout, prefix)
    torch.manual_seed(0)
    with torch.no_grad():
        noisy = torch.stack([attend(qkv, layout, prefix, None, None, 0.3) for _ in range(1500)])
    assert not torch.allclose(noisy[0], calm, atol=1e-3)
    torch.testing.assert_close(noisy.mean(0), calm, rtol=0.0, atol=0.12)


def test_a_broken_example_does_not_reach_its_neighbours() -> None:
    """A job of a packed run may diverge; the others go on."""
    (qkv, key, value), layout = inputs(RAGGED), Layout(packed(RAGGED))
    calm = attend(qkv, layout, Prefix(key, value))
    broken = qkv.detach().clone()
    start = sum(RAGGED[:2])
    broken[start : start + RAGGED[2]] = torch.nan
    broken.requires_grad_(True)
    rows = attend(broken, layout, Prefix(key, value))
    others = [i for i in range(len(rows)) if not start <= i < start + RAGGED[2]]
    torch.testing.assert_close(rows[others], calm[others])
    rows[others].sum().backward()
    assert broken.grad is not None and torch.isfinite(broken.grad[others]).all()


def test_low_precision_stays_close() -> None:
    qkv, key, value = inputs(RAGGED)
    exact = attend(qkv, Layout(packed(RAGGED)), Prefix(key, value, gate))
    low = attend(qkv.bfloat16(), Layout(packed(RAGGED)), Prefix(key, value, gate))
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), exact, rtol=0.05, atol=0.05)
