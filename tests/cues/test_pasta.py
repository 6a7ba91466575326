"""PASTA against its published equation written the slow way, its ablations, its dropout, and
STP as its limit.
"""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from softcue.batch import Example, pack
from softcue.errors import BatchError
from softcue.mixture import Mixture
from softcue.protocol import Context, Cue
from tests.cues.cue_cases import (
    FAMILIES,
    SEATS,
    agree,
    build,
    case,
    close,
    facts,
    forward,
    gradients,
    same,
    slots,
    text,
    texts,
)
from tests.encoder.slow_bert import Before, encode


def adding(table: Tensor, example: Example) -> Before:
    """Before each layer, row s_j gets table[layer, j]: section 1.1 of the PASTA specification."""

    def before(layer: int, hidden: Tensor) -> Tensor:
        rows = list(hidden)
        for j, place in enumerate(example.special):
            rows[place] = rows[place] + table[layer, j]
        return torch.stack(rows)

    return before


@pytest.mark.parametrize("family", FAMILIES)
def test_pasta_equals_its_published_equation_in_outputs_and_gradients(family: str) -> None:
    def slow(model: PreTrainedModel, cue: Cue, seat: int, example: Example) -> Tensor:
        return encode(model, example, before=adding(cue.delta[seat], example))

    agree(family, build("pasta", case(family)[1], slots=slots(family)), slow)


@pytest.mark.parametrize(
    ("family", "options", "vectors"),
    [
        ("roberta", {"separators": "merged"}, (0, 1, 1, 2)),
        ("bert", {"separators": "merged"}, (0, 1, 2)),
        ("bert", {"tokens": "cls"}, (0, None, None)),
        ("bert", {"tokens": "sep"}, (None, 0, 1)),
        ("roberta", {"tokens": "sep", "separators": "merged"}, (None, 0, 0, 1)),
        ("bert", {"shared": True}, (0, 0, 0)),
        ("bert", {"tokens": "sep", "shared": True}, (None, 0, 0)),
    ],
)
def test_pasta_ablations_add_the_vectors_they_name(
    family: str, options: dict, vectors: tuple[int | None, ...]
) -> None:
    def slow(model: PreTrainedModel, cue: Cue, seat: int, example: Example) -> Tensor:
        zero = torch.zeros(model.config.hidden_size)
        table = torch.stack(
            [torch.stack([zero if v is None else row[v] for v in vectors]) for row in cue.delta[seat]]
        )
        return encode(model, example, before=adding(table, example))

    cue = build("pasta", case(family)[1], slots=slots(family), **options)
    assert cue.delta.shape[2] == len({v for v in vectors if v is not None})
    agree(family, cue, slow)


def test_pasta_drops_each_element_of_each_example_on_its_own_and_scales_the_rest() -> None:
    _, encoder = case("bert")
    cue = build("pasta", encoder, slots=3, dropout=0.25)
    cue.train()
    examples = [text("bert", 3, 4)] * 400
    batch = pack(examples)
    hidden = torch.zeros(len(batch.token), encoder.dims.hidden)
    added = cue.before_layer(0, hidden, Context(batch))[batch.special]  # (B, S, D)
    kept = added != 0
    close([added[kept]], [(cue.delta[0, 0] / 0.75).expand_as(added)[kept]])
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.01)
    assert not bool((kept[0] == kept[1]).all())


def test_pasta_dropout_is_a_rate_per_seat() -> None:
    _, encoder = case("bert")
    cue = build("pasta", encoder, adapters=2, slots=3, dropout=0.0)
    cue.configure(1, type(cue).Config(slots=3, dropout=0.5))
    cue.train()
    batch = pack([text("bert", 3, 4)] * 4, seats=[0, 0, 1, 1])
    added = cue.before_layer(0, torch.zeros(len(batch.token), encoder.dims.hidden), Context(batch))[
        batch.special
    ]
    assert bool((added[:2] != 0).all())
    assert not bool((added[2:] != 0).all())


@pytest.mark.parametrize("method", ["pasta", "stp"])
def test_more_specials_than_an_adapter_was_trained_for_are_refused(method: str) -> None:
    _, encoder = case("bert")
    settings = {"slots": 2} if method == "pasta" else {"plan": "explicit", "place": ((0, 1),) * 3}
    cue = build(method, encoder, **settings)
    with pytest.raises(BatchError, match=r"3 special tokens; its (PASTA|STP) adapter was trained for 2"):
        forward(encoder, cue, texts("bert"), SEATS)
    forward(encoder, cue, [text("bert", 3), text("bert", 9)], (0, 1))


@pytest.mark.parametrize("method", ["pasta", "stp"])
def test_a_wider_neighbour_in_the_batch_changes_nothing_for_a_single_text(method: str) -> None:
    _, encoder = case("bert")
    settings = {"slots": 2} if method == "pasta" else {"plan": "explicit", "place": ((0, 1),) * 3}
    single, pair = build(method, encoder, **settings), build("pasta", encoder, slots=3)
    batch = pack([text("bert", 3), text("bert", 2, 2)], [0, 1])
    hidden, _ = encoder(batch, Mixture([single, pair], [(0, 0), (1, 0)]))
    close(list(hidden.split(batch.lengths))[:1], forward(encoder, single, [text("bert", 3)], [0]))


@pytest.mark.parametrize("family", FAMILIES)
def test_stp_with_every_layer_in_both_sets_is_pasta(family: str) -> None:
    _, encoder = case(family)
    count = slots(family)
    pasta = build("pasta", encoder, slots=count)
    config = Cue.registry["stp"].Config(
        plan="explicit", cls_layers=(0, 1, 2), sep_layers=(0, 1, 2), separators="all"
    )
    stp = Cue.registry["stp"](
        encoder.dims,
        Cue.registry["stp"].settle(config, facts(encoder.dims, ["cls", *["sep"] * (count - 1)])),
        3,
    )
    with torch.no_grad():
        stp.delta.copy_(pasta.delta.flatten(1, 2))
    stp.eval()
    same(encoder, texts(family), stp, pasta, 0.0)
    one, other = (gradients(forward(encoder, cue, texts(family), SEATS), cue) for cue in (stp, pasta))
    close(one, [other[0].flatten(1, 2)])
