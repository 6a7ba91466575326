"""Tests of attention over packed rows, of the shortcut for heads that read some rows only, and
of dropout by integers.
"""

import pytest
import torch
from torch import Tensor

from softcue.attention.attend import Sight
from softcue.attention.buckets import Collect, ToBuckets, to_batch, to_buckets
from softcue.attention.layout import Bucket, Layout
from softcue.attention.products import Products
from softcue.batch import Batch, Reads, pack
from softcue.cues import Cue
from softcue.kernels.dropout import drop, dropout, dropout_mask
from softcue.protocol import Facts
from tests.tiny import random_examples, tiny_encoder

LENGTHS = (1, 50, 2, 23, 7, 48, 31, 12)


def a_batch(family: str = "bert") -> Batch:
    return pack(random_examples(family, LENGTHS))


def batches_of_both_orders() -> list[Batch]:
    """The buckets' own order, and another: examples of two seats."""
    examples = random_examples("bert", sorted(LENGTHS, reverse=True))
    return [pack(examples), pack(examples, [0, 1] * (len(LENGTHS) // 2))]


@pytest.mark.parametrize("number", [0, 1])
def test_every_row_stands_at_one_place_that_holds_it(number: int) -> None:
    batch = batches_of_both_orders()[number]
    layout, rows = Layout(batch), torch.arange(len(batch.token)).unsqueeze(1)
    assert (layout.places.example is None) == (number == 0) and any(
        bucket.pad is not None for bucket in layout.buckets
    )
    with_zeros = layout.padded(rows + 1, zeros=True)
    for bucket, own, zeroed in zip(layout.buckets, layout.padded(rows), with_zeros, strict=True):
        assert torch.equal(own.view(bucket.row.shape), bucket.row)
        pad = torch.zeros(bucket.row.shape, dtype=torch.bool) if bucket.pad is None else bucket.pad
        assert torch.equal(zeroed.view(bucket.row.shape), (bucket.row + 1).masked_fill(pad, 0))
    back = layout.collect(rows, 1, lambda i, places: places.copy_(layout.buckets[i].row.view(-1, 1)))
    assert torch.equal(back, rows)
    example = torch.cat([bucket.example for bucket in layout.buckets])
    assert torch.equal(to_buckets(torch.arange(len(batch)), layout), example)
    assert torch.equal(to_batch(example, layout), torch.arange(len(batch)))


@pytest.mark.parametrize("dropped", [0.0, 0.3])
def test_gradients_written_by_hand_equal_finite_differences(dropped: float) -> None:
    torch.manual_seed(0)
    pad = torch.tensor([[False, False, False], [False, False, True]])
    bucket = Bucket(torch.arange(2), torch.tensor([[0, 1, 2], [3, 4, 4]]), pad, 2)
    sight = Sight(bucket, None, None, 0.5, dropped, None)
    query, key, value = (torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    mask = torch.randn(2, 1, 1, 3, dtype=torch.float64, requires_grad=True)
    # logits towards two prefix tokens
    ahead = torch.randn(2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    front = torch.randn(2, 2, 2, 4, dtype=torch.float64)

    def mixed(q: Tensor, k: Tensor, v: Tensor, m: Tensor) -> Tensor:
        torch.manual_seed(1)
        return Products.apply(q, k, v, m, None, sight)

    def mixed_behind(q: Tensor, k: Tensor, v: Tensor, m: Tensor, a: Tensor) -> Tensor:
        torch.manual_seed(1)
        return Products.apply(q, k, torch.cat([front, v], dim=2), m, a, sight)

    # softmax is float32 by design: differences of 1e-3 and a bound to match
    assert torch.autograd.gradcheck(mixed, (query, key, value, mask), eps=1e-2, atol=2e-3, rtol=1e-2)
    assert torch.autograd.gradcheck(
        mixed_behind, (query, key, value, mask, ahead), eps=1e-2, atol=2e-3, rtol=1e-2
    )


@pytest.mark.parametrize("number", [0, 1])
def test_gathers_on_the_way_back_equal_what_autograd_would_do(number: int) -> None:
    batch = batches_of_both_orders()[number]
    layout = Layout(batch)
    rows = torch.randn(len(batch.token), 3, 2, 4, requires_grad=True)
    out = Collect.apply(layout, *ToBuckets.apply(rows, layout)[::3])
    torch.testing.assert_close(out, rows[:, 0].flatten(1))
    weight = torch.randn_like(out)
    (grad,) = torch.autograd.grad(out, rows, weight)
    assert torch.equal(grad[:, 0].flatten(1), weight) and not grad[:, 1:].any()
    x = torch.randn(len(LENGTHS), 5, requires_grad=True)
    weight = torch.randn(len(LENGTHS), 5)
    (ours,) = torch.autograd.grad(to_buckets(x, layout), x, weight)
    (theirs,) = torch.autograd.grad(x[torch.cat([bucket.example for bucket in layout.buckets])], x, weight)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("family", ["bert", "mpnet", "deberta-v3", "modernbert"])
@pytest.mark.parametrize("method", ["pasta", "spt", "apt", "lora", "gpc", "bitfit"])
@pytest.mark.parametrize("reads", ["first", "words"])
def test_the_rows_that_are_read_are_the_same_when_no_other_is_asked_for(
    family: str, method: str, reads: Reads
) -> None:
    encoder = tiny_encoder(family)
    cls = Cue.registry[method]
    config = cls.settle(
        cls.Config(), Facts(encoder.dims, ("cls", "sep", "sep"), lambda: torch.ones(encoder.dims.layers, 3))
    )
    cue = cls(encoder.dims, config)
    for parameter in cue.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    batch = pack(random_examples(family, (9, 3, 14, 6)), reserve=cue.reserve, shift=cue.shift)
    cue.eval()
    row = batch.special[:, 0] if reads == "first" else batch.word
    numbers = [p for p in cue.parameters() if p.requires_grad]
    results, grads = [], []
    for asked in ("all", reads):
        read = encoder(batch, cue, reads=asked)[0][row]
        results.append(read)
        grads.append(torch.autograd.grad(read.square().sum(), numbers, allow_unused=True))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0)
    for whole, short in zip(*grads, strict=True):
        torch.testing.assert_close(whole, short, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["bert", "mpnet", "deberta-v3", "modernbert", "modernbert-bias"])
@pytest.mark.parametrize("method", ["pasta", "lora", "bitfit"])
@pytest.mark.parametrize("reads", ["first", "words"])
def test_nobody_else_is_computed_in_the_last_layer(reads: Reads, method: str, family: str) -> None:
    """But for a method that edits maps after attention, and may ask for every row there."""
    encoder, batch = tiny_encoder(family), a_batch(family)
    cls = Cue.registry[method]
    config = cls.settle(
        cls.Config(), Facts(encoder.dims, ("cls", "sep", "sep"), lambda: torch.ones(encoder.dims.layers, 3))
    )
    hidden = encoder(batch, cls(encoder.dims, config), reads=reads)[0]
    others = torch.ones(len(hidden), dtype=torch.bool)
    others[batch.special[:, 0] if reads == "first" else batch.word] = False
    assert others.any() and bool(hidden[others].any()) == (method == "bitfit") and hidden[~others].any()


def test_dropout_drops_its_share_keeps_the_mean_and_repeats_with_its_seed() -> None:
    x = torch.ones(1000, 1000)
    torch.manual_seed(0)
    once = dropout(x, 0.1, True)
    torch.manual_seed(0)
    assert torch.equal(once, dropout(x, 0.1, True))
    # one tensor's share is a whole number of 256ths
    assert abs(float((once == 0).float().mean()) - 0.1) < 1 / 256 + 1e-3
    many = torch.stack([dropout(torch.ones(100), 0.1, True) for _ in range(10_000)])
    assert abs(float((many == 0).float().mean()) - 0.1) < 2e-3
    assert abs(float(many.mean()) - 1) < 2e-3
    assert once.unique().tolist() == [0.0, pytest.approx(1 / 0.9, rel=1e-4)]
    assert dropout(x, 0.1, False) is x and dropout(x, 0.0, True) is x
    assert not dropout(x, 1.0, True).any()


def test_neighbouring_numbers_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (dropout_mask(torch.ones(400_000), 0.5) > 0).float()
    for distance in (1, 2, 3, 4, 5, 8):
        assert abs(float((kept[distance:] * kept[:-distance]).mean()) - 0.25) < 4e-3


def test_each_example_is_dropped_at_its_own_rate() -> None:
    torch.manual_seed(0)
    rates, seat = torch.tensor([0.2, 0.0, 0.5]), torch.tensor([1, 0, 2])
    dropped, rate = drop(torch.ones(3, 200, 200), rates, seat, True), rates[seat]
    torch.testing.assert_close((dropped == 0).float().mean((1, 2)), rate, atol=1e-2, rtol=0)
    torch.testing.assert_close(dropped.mean((1, 2)), torch.ones(3), atol=2e-2, rtol=0)
    assert torch.equal(dropped[0], torch.ones(200, 200))


def test_bfloat16_is_dropped_like_float32() -> None:
    torch.manual_seed(0)
    high = dropout_mask(torch.ones(64, 64), 0.1)
    torch.manual_seed(0)
    assert torch.equal(dropout_mask(torch.ones(64, 64, dtype=torch.bfloat16), 0.1), high.bfloat16())


@pytest.mark.parametrize(
    "lengths", [(12,), (9, 9, 9), (5, 40, 11)], ids=["alone", "of one length", "of several"]
)
@pytest.mark.parametrize("method", sorted(Cue.registry))
def test_the_shorter_paths_without_a_way_back_give_the_same(method: str, lengths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    encoder = tiny_encoder("bert")
    cls = Cue.registry[method]
    mass = torch.rand(encoder.dims.layers, 3)
    cue = cls(
        encoder.dims,
        cls.settle(cls.Config(), Facts(encoder.dims, ("cls", "sep", "sep"), lambda: mass)),
        adapters=3,
    ).eval()
    with torch.no_grad():
        for parameter in cue.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    batch = pack(
        random_examples("bert", lengths), [i % 3 for i in range(len(lengths))], cue.reserve, cue.shift
    )
    with torch.enable_grad():
        long = encoder(batch, cue)[0]
    with torch.inference_mode():
        short = encoder(batch, cue)[0]
    torch.testing.assert_close(short, long.detach(), atol=1e-5, rtol=0)
