"""row_sizes against transformers' hidden states, and what PASTA and STP make of them."""

import pytest
import torch
from torch import Tensor

from softcue.batch import Example
from softcue.cues import Cue
from softcue.encoder.row_sizes import row_sizes
from softcue.protocol import Dims
from tests.tiny import padded, random_examples, tiny_encoder, tiny_hf

LENGTHS = (9, 40, 14, 6, 5, 11, 8, 33, 4)
DIMS = Dims(layers=2, hidden=8, heads=2, embed=8, ff=16, pooler=False)


def slow_sizes(family: str, examples: list[Example], slots: int) -> Tensor:
    """From output_hidden_states, example by example."""
    model = tiny_hf(family)
    with torch.no_grad():
        inputs = model(**padded(model, examples), output_hidden_states=True).hidden_states[:-1]
    sizes = torch.zeros(len(inputs), slots)
    for layer, hidden in enumerate(inputs):
        for slot in range(slots):
            rows = [
                hidden[i, example.special[slot]]
                for i, example in enumerate(examples)
                if slot < len(example.special)
            ]
            sizes[layer, slot] = torch.stack(rows).square().mean().sqrt() if rows else 0.0
    return sizes


@pytest.mark.parametrize("per_batch", [32, 4])
@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet"])
def test_it_is_the_root_mean_square_of_what_transformers_reports(family: str, per_batch: int) -> None:
    examples = random_examples(family, LENGTHS)
    ours = row_sizes(tiny_encoder(family), examples, 4, per_batch)
    torch.testing.assert_close(ours, slow_sizes(family, examples, 4), rtol=1e-5, atol=1e-6)


def test_measuring_uses_no_dropout_and_leaves_the_mode_as_it_was() -> None:
    encoder, examples = tiny_encoder("bert"), random_examples("bert", LENGTHS)
    calm = row_sizes(encoder.eval(), examples, 3)
    assert torch.equal(row_sizes(encoder.train(), examples, 3), calm)
    assert encoder.training


def units(method: str, sizes: Tensor, **options: object) -> Tensor:
    cls = Cue.registry[method]
    config = cls.Config(**options)
    unit = cls.units(config, lambda: sizes)["delta"]
    cue = cls(DIMS, config)
    assert unit.expand_as(cue.get_parameter("delta")[0]).shape == cue.get_parameter("delta")[0].shape
    return unit.squeeze(-1)


SIZES = torch.tensor([[0.45, 0.11, 0.055, 0.055], [0.9, 0.40, 0.2, 0.25]])


def test_pasta_measures_a_vector_in_the_size_of_its_rows() -> None:
    assert units("pasta", SIZES, slots=4).tolist() == [[1, 0.25, 0.125, 0.125], [2, 1, 0.5, 0.5]]
    assert units("pasta", SIZES, slots=4, separators="merged").tolist() == [[1, 0.25, 0.125], [2, 0.5, 0.5]]
    assert units("pasta", SIZES, slots=4, tokens="sep").tolist() == [[0.25, 0.125, 0.125], [1, 0.5, 0.5]]
    assert units("pasta", SIZES, slots=4, shared=True).shape == (2, 1)


def test_stp_measures_a_vector_in_the_size_of_its_rows() -> None:
    place = ((0, -1, 1, 1), (2, -1, -1, 3))
    assert units("stp", SIZES, plan="explicit", place=place).tolist() == [1, 0.125, 2, 0.5]


def test_an_encoder_whose_rows_are_as_large_as_minilms_has_the_unit_one() -> None:
    """Of every layer on CoLA, MRPC and CoNLL-2003: the presets' evidence stays as it is."""
    assert units("pasta", torch.tensor([[0.34, 0.54], [0.40, 0.35]]), slots=2).eq(1).all()


def test_slots_that_the_task_lacks_have_the_unit_one() -> None:
    assert units("pasta", SIZES[:, :2], slots=3).tolist() == [[1, 0.25, 1], [2, 1, 1]]
