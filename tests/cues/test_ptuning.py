"""P-tuning v2 against its equation written the slow way."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from softcue.batch import Example
from softcue.protocol import Cue
from tests.cues.cue_cases import FAMILIES, Counted, Own, agree, build, case, tables
from tests.encoder.slow_bert import encode

LENGTH = 5
OWN = Own(
    small={"length": LENGTH},
    counted=[
        Counted({"length": 20}, {"bert-base": 368_640, "bert-large": 983_040}),
        Counted({"length": 20, "mlp": 512}, {"bert-base": 9_864_704, "bert-large": 25_760_256}),
    ],
    refused=[
        ({"length": 0}, "length is 0; expected at least 1"),
        ({"length": "many"}, "length is 'many'; expected a whole number"),
        (
            {"length": 0, "dropout": 1.0},
            "length is 0; expected at least 1; dropout is 1.0; expected less than 1",
        ),
    ],
)


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
