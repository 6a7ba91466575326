"""Prompt tuning against its equation written the slow way."""

import pytest
from torch import Tensor
from transformers import PreTrainedModel

from softcue.batch import Example
from softcue.protocol import Cue
from tests.cues.cue_cases import FAMILIES, Counted, Own, agree, build, case
from tests.encoder.slow_bert import encode

LENGTH = 5
OWN = Own(
    small={"length": LENGTH},
    counted=[
        Counted({"length": 20}, {"bert-base": 15_360, "bert-large": 20_480}),
        Counted({"length": 20, "enter": "layer"}, {"bert-base": 15_360, "bert-large": 20_480}),
    ],
)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("enter", ["words", "layer"])
def test_prompt_tuning_equals_vectors_in_front_of_the_text(family: str, enter: str) -> None:
    def slow(model: PreTrainedModel, cue: Cue, seat: int, example: Example) -> Tensor:
        front = {"words": cue.vectors[seat]} if enter == "words" else {"rows": cue.vectors[seat]}
        return encode(model, example, shift=LENGTH, **front)

    agree(family, build("prompt", case(family)[1], length=LENGTH, enter=enter), slow)
