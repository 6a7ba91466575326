"""APT against its equation written the slow way, and against its limits."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from softcue.batch import Example, pack
from softcue.protocol import Context, Cue
from tests.cues.cue_cases import (
    BERT_BASE,
    FAMILIES,
    SEATS,
    Counted,
    Own,
    agree,
    build,
    case,
    close,
    count,
    differ,
    forward,
    gradients,
    same,
    tables,
    texts,
)
from tests.encoder.slow_bert import encode

LENGTH = 5
OWN = Own(
    small={"length": LENGTH},
    counted=[
        Counted({"length": 20}, {"bert-base": 553_212, "bert-large": 1_475_064}),
        Counted({"length": 20, "bias": False}, {"bert-base": 552_972, "bert-large": 1_474_584}),
        Counted({"length": 20, "reads": "nothing"}, {"bert-base": 368_892, "bert-large": 983_544}),
        Counted({"length": 20, "token_gate": False}, {"bert-base": 368_652, "bert-large": 983_064}),
        Counted({"length": 20, "layer_gate": False}, {"bert-base": 553_200, "bert-large": 1_475_040}),
    ],
    refused=[
        ({"reads": "last"}, "expected 'first' or 'mean' or 'nothing'"),
        ({"reads": "nothing", "bias": False}, "expected a gate that can learn"),
    ],
)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("reads", ["first", "mean"])
def test_apt_equals_its_equation_in_outputs_and_gradients(family: str, reads: str) -> None:
    def slow(model: PreTrainedModel, cue: Cue, seat: int, example: Example) -> Tensor:
        def front(layer: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
            read = hidden[0] if reads == "first" else sum(hidden) / len(hidden)
            gate = (
                torch.sigmoid(read @ cue.gate[seat, layer] + cue.gate_bias[seat, layer])
                * cue.scale[seat, layer]
            )
            key, value = tables(cue.kv[seat])(layer, hidden)
            return gate[:, None] * key, gate[:, None] * value

        return encode(model, example, front=front, shift=LENGTH)

    agree(family, build("apt", case(family)[1], length=LENGTH, reads=reads), slow)


def test_apt_with_zero_gate_weights_and_scale_two_is_ptuning() -> None:
    _, encoder = case("roberta")
    apt, ptuning = build("apt", encoder, length=LENGTH), build("ptuning", encoder, length=LENGTH)
    with torch.no_grad():
        apt.gate.zero_()
        apt.gate_bias.zero_()
        apt.scale.fill_(2)
    same(encoder, texts("roberta"), apt, ptuning, 0.0)
    one, other = (gradients(forward(encoder, cue, texts("roberta"), SEATS), cue) for cue in (apt, ptuning))
    close(one[:1], other[:1])


def test_apt_with_scale_zero_appends_zero_keys_and_values_and_is_not_the_bare_encoder() -> None:
    model, encoder = case("bert")
    apt = build("apt", encoder, length=LENGTH, shift=False)
    with torch.no_grad():
        apt.scale.zero_()
    outputs = forward(encoder, apt, texts("bert"), SEATS)
    zeros = torch.zeros(LENGTH, model.config.hidden_size)
    close(
        outputs,
        [encode(model, example, front=lambda layer, hidden: (zeros, zeros)) for example in texts("bert")],
    )
    assert differ(outputs, forward(encoder, build("probe", encoder), texts("bert"), SEATS))


def test_apt_without_both_gates_is_ptuning_and_reading_nothing_gates_all_examples_alike() -> None:
    _, encoder = case("bert")
    plain = build("apt", encoder, length=LENGTH, token_gate=False, layer_gate=False)
    same(encoder, texts("bert"), plain, build("ptuning", encoder, length=LENGTH), 0.0)
    blind = build("apt", encoder, length=LENGTH, reads="nothing")
    ctx = Context(pack(texts("bert"), [0] * 5, 0, LENGTH))
    weight = blind.weight(1, torch.randn(len(ctx.batch.token), encoder.dims.hidden), ctx)
    assert bool((weight == weight[0]).all())


def test_apt_has_half_as_many_numbers_again_as_ptuning() -> None:
    assert round(count("apt", BERT_BASE, length=20) / count("ptuning", BERT_BASE, length=20), 2) == 1.5
