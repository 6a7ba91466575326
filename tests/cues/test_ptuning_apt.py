"""P-tuning v2 and APT against their equations written the slow way, and APT against its limits."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from softcue.batch import Example, pack
from softcue.protocol import Context, Cue
from tests.cues.cue_cases import (
    FAMILIES,
    SEATS,
    agree,
    build,
    case,
    close,
    differ,
    forward,
    gradients,
    same,
    texts,
)
from tests.encoder.slow_bert import Front, encode

LENGTH = 5


def tables(kv: Tensor) -> Front:
    """Keys and values (L, 2, P, H, K) of one adapter, whatever the layer's input."""
    return lambda layer, hidden: (kv[layer, 0].flatten(1), kv[layer, 1].flatten(1))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shift", [True, False])
def test_ptuning_equals_its_published_equation_in_outputs_and_gradients(family: str, shift: bool) -> None:
    def slow(model: PreTrainedModel, cue: Cue, seat: int, example: Example) -> Tensor:
        return encode(model, example, front=tables(cue.kv[seat]), shift=LENGTH if shift else 0)

    agree(family, build("ptuning", case(family)[1], length=LENGTH, shift=shift), slow)


def test_ptuning_through_its_mlp_equals_the_published_reparameterisation() -> None:
    def slow(model: PreTrainedModel, cue: Cue, seat: int, example: Example) -> Tensor:
        def front(layer: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
            inner = torch.tanh(cue.words[seat] @ cue.inner[seat] + cue.inner_bias[seat])
            return (inner @ cue.outer[seat, layer] + cue.outer_bias[seat, layer]).split(
                model.config.hidden_size, dim=1
            )

        return encode(model, example, front=front, shift=LENGTH)

    agree("bert", build("ptuning", case("bert")[1], length=LENGTH, mlp=7), slow)


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
