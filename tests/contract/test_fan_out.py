"""One text for many adapters: the same answers as alone, from fewer rows."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from softcue.answering.evaluation import run
from softcue.encoder.core import Encoder
from softcue.heads import Head
from softcue.model import Assignment, Model
from softcue.protocol import Context, Cue, Silent
from softcue.readers.items import Item
from softcue.text.tokens import Encoded
from tests.contract.cases import FAMILIES, GRID, METHODS, case, make_model, randomise, settled
from tests.tiny import LAYERS, random_examples, tiny_encoder

HIGH = {"plan": "explicit", "cls_layers": (2,), "sep_layers": (2,)}  # STP that begins at layer 2


@contextmanager
def counted(encoder: Encoder) -> Iterator[list[tuple[int, int]]]:
    """(layer, rows) of every layer that the encoder runs."""
    seen: list[tuple[int, int]] = []
    through = encoder.through

    def counting(numbers: range, hidden: Tensor, *others: object, **named: object) -> Tensor:
        seen.extend((number, len(hidden)) for number in numbers)
        return through(numbers, hidden, *others, **named)  # type: ignore[arg-type]

    encoder.__dict__["through"] = counting
    try:
        yield seen
    finally:
        del encoder.__dict__["through"]


def rows_by_layer(seen: list[tuple[int, int]]) -> list[int]:
    return [sum(rows for number, rows in seen if number == layer) for layer in range(LAYERS)]


def items_of(family: str, *lengths: int, seed: int = 0) -> list[Item]:
    return [Item((Encoded(example, (), 0, 0),), (0,)) for example in random_examples(family, lengths, seed)]


def alone(model: Model, items: list[Item], seats: list[int]) -> list[Tensor]:
    return [run(model, [item], [seat])[0] for item, seat in zip(items, seats, strict=True)]


def close(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def mixed_model(family: str, pooling: str = "cls") -> Model:
    """One seat of every method, and STP once more from a high layer."""
    encoder = tiny_encoder(family).requires_grad_(False)
    cues = [Cue.registry[method](encoder.dims, settled(method, encoder.dims), 1) for method in METHODS]
    cues.append(Cue.registry["stp"](encoder.dims, settled("stp", encoder.dims, **HIGH), 1))
    head = Head("classify", encoder.dims.hidden, [2 + seat % 3 for seat in range(len(cues))], pooling)
    for part in (*cues, head):
        randomise(part, 3)
    return Model(encoder, cues, [head], [Assignment(seat, 0, 0, seat) for seat in range(len(cues))]).eval()


@pytest.mark.parametrize(("family", "method"), GRID)
def test_a_text_for_three_adapters_is_answered_as_alone(family: str, method: str) -> None:
    model = case(family, method).model
    one, two, three = items_of(family, 9, 6, 9)
    items, seats = [one, two, one, three, one, two], [0, 1, 1, 2, 2, 0]
    close(run(model, items, seats), alone(model, items, seats))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_for_every_method_is_answered_as_alone_beside_others(family: str, pooling: str) -> None:
    model = mixed_model(family, pooling)
    seats = list(range(len(model.places)))
    shared, other, single = items_of(family, 11, 5, 11)
    items = [shared] * len(seats) + [other] * 3 + [single]
    seats = [*seats, len(seats) - 1, METHODS.index("probe"), 0, 1]
    close(run(model, items, seats), alone(model, items, seats))


def test_layers_that_no_adapter_touches_run_over_one_copy() -> None:
    encoder = tiny_encoder("bert")
    (item,) = items_of("bert", 9)
    for method, options, expected in (
        ("probe", {}, [9, 9, 9]),
        ("stp", HIGH, [9, 9, 8 * 9]),
        ("pasta", {}, [8 * 9] * 3),
    ):
        model = make_model(encoder, method, 8, **options)
        with counted(encoder) as seen:
            run(model, [item] * 8, list(range(8)))
        assert rows_by_layer(seen) == expected, method


def test_adapters_leave_the_trunk_where_each_begins_and_others_keep_their_rows() -> None:
    model = mixed_model("bert")
    probe, high, full = METHODS.index("probe"), len(METHODS), METHODS.index("pasta")
    shared, single, other = items_of("bert", 9, 5, 7)
    with counted(model.encoder) as seen:
        run(
            model,
            [shared, shared, shared, shared, single, other, other],
            [probe, high, full, high, probe, high, high],
        )
    # below layer 2: one copy of the shared text, PASTA's own, the single one, and one of the other
    # at layer 2: the probe's, two of STP's, PASTA's; the single one; two of the other
    assert rows_by_layer(seen) == [9 + 9 + 5 + 7, 9 + 9 + 5 + 7, 9 + 2 * 9 + 9 + 5 + 2 * 7]


def test_texts_that_differ_in_one_token_or_in_positions_share_nothing() -> None:
    model = mixed_model("bert")
    one, two = items_of("bert", 9, 9)
    with counted(model.encoder) as seen:
        run(model, [one, two], [METHODS.index("probe")] * 2)
    assert rows_by_layer(seen) == [18] * 3


def test_equal_texts_share_whoever_made_them() -> None:
    model = mixed_model("bert")
    (one,), (two,) = items_of("bert", 9), items_of("bert", 9)
    assert one is not two
    with counted(model.encoder) as seen:
        run(model, [one, two], [METHODS.index("probe"), len(METHODS)])
    assert rows_by_layer(seen) == [9, 9, 18]


def test_training_shares_nothing() -> None:
    model = make_model(tiny_encoder("bert"), "probe")
    (example,) = random_examples("bert", (9,))
    with counted(model.encoder) as seen:
        model(model.pack([example] * 3, [0, 1, 2]))
    assert rows_by_layer(seen) == [27] * 3


def test_a_pooler_that_an_adapter_edits_stays_its_own() -> None:
    model = mixed_model("bert", "pooler")
    (item,) = items_of("bert", 9)
    seats = list(range(len(model.places)))
    items = [item] * len(seats)
    close(run(model, items, seats), alone(model, items, seats))


@pytest.mark.parametrize(("family", "method"), GRID)
def test_a_method_changes_nothing_below_the_layer_that_it_names(family: str, method: str) -> None:
    """And nothing is asked of it there: its first call may be at that layer."""
    encoder = tiny_encoder(family)
    model = make_model(encoder, method, 2, **(HIGH if method == "stp" else {}))
    (example,) = random_examples(family, (9,))
    first, ctx = model.mixture.first_touched(1), Context(model.pack([example], [1]))
    if first == 0:
        return
    with torch.no_grad():
        ours = encoder.through(range(first), encoder.embedded(model.mixture, ctx), model.mixture, ctx)
        bare, silent = Context(ctx.batch), Silent()
        theirs = encoder.through(range(first), encoder.embedded(silent, bare), silent, bare)
    torch.testing.assert_close(ours, theirs)
