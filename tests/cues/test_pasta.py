"""PASTA against its published equation written the slow way, its ablations, its dropout, and
STP as its limit.
"""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from softcue.batch import Example, pack
from softcue.errors import BatchError, RequestError
from softcue.mixture import Mixture
from softcue.protocol import Context, Cue, Dims
from tests.cues.cue_cases import (
    BERT_BASE,
    BERT_LARGE,
    FAMILIES,
    ROBERTA_BASE,
    ROBERTA_LARGE,
    SEATS,
    TOTALS,
    Counted,
    Own,
    agree,
    build,
    case,
    close,
    count,
    facts,
    forward,
    gradients,
    same,
    slots,
    text,
    texts,
)
from tests.encoder.slow_bert import Before, encode

OWN = Own(
    small={"slots": 3},
    counted=[
        Counted({"slots": 2}, {"bert-base": 18_432, "bert-large": 49_152}),
        Counted({"slots": 4}, {"bert-base": 36_864, "bert-large": 98_304}),
        Counted({"slots": 4, "separators": "merged"}, {"bert-base": 27_648, "bert-large": 73_728}),
        Counted(
            {"slots": 4, "separators": "merged", "tokens": "sep"},
            {"bert-base": 18_432, "bert-large": 49_152},
        ),
        Counted({"slots": 3, "tokens": "cls"}, {"bert-base": 9_216, "bert-large": 24_576}),
        Counted({"slots": 3, "shared": True}, {"bert-base": 9_216, "bert-large": 24_576}),
    ],
    refused=[({"slots": 0}, "slots is 0; expected at least 1")],
)


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


@pytest.mark.parametrize(
    ("checkpoint", "dims", "shares"),
    [
        ("bert-base-cased", BERT_BASE, (0.0085, 0.0170, 0.0255, 0.0340)),
        ("bert-large-cased", BERT_LARGE, (0.0074, 0.0147, 0.0221, 0.0295)),
        ("bert-large-uncased", BERT_LARGE, (0.0073, 0.0147, 0.0220, 0.0293)),
        ("roberta-base", ROBERTA_BASE, (0.0074, 0.0148, 0.0222, 0.0296)),
        ("roberta-large", ROBERTA_LARGE, (0.0069, 0.0138, 0.0207, 0.0277)),
    ],
)
def test_pasta_is_the_published_share_of_each_checkpoint(
    checkpoint: str, dims: Dims, shares: tuple[float, ...]
) -> None:
    for special, share in enumerate(shares, start=1):
        assert round(100 * count("pasta", dims, slots=special) / TOTALS[checkpoint], 4) == share


def test_pasta_has_a_twentieth_of_the_numbers_of_ptuning_on_conll03() -> None:
    assert count("ptuning", BERT_LARGE, length=20) == 983_040
    assert count("pasta", BERT_LARGE, slots=2) == 49_152
    assert 983_040 / 49_152 == 20.0


def test_unsettled_pasta_is_refused_rather_than_guessed() -> None:
    _, encoder = case("bert")
    cls = Cue.registry["pasta"]
    with pytest.raises(RequestError, match="not known"):
        cls(encoder.dims, cls.Config())
    with pytest.raises(RequestError, match="not known"):
        cls.count(encoder.dims, cls.Config())
    with pytest.raises(RequestError, match="no separators"):
        cls(encoder.dims, cls.Config(slots=1, tokens="sep"))
