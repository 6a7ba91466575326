"""attention_mass against transformers' own attention probabilities."""

import pytest
import torch

from softcue.batch import Example
from softcue.encoder.attention_mass import attention_mass
from tests.tiny import padded, random_examples, tiny_encoder, tiny_hf

LENGTHS = (9, 40, 14, 6, 5, 11, 8, 33, 4)


def slow_mass(family: str, examples: list[Example], slots: int) -> torch.Tensor:
    """Mean over heads, rows and the examples that have the slot, from output_attentions."""
    model = tiny_hf(family)
    with torch.no_grad():
        layers = model(**padded(model, examples), output_attentions=True).attentions
    mass = torch.zeros(len(layers), slots)
    for number, chance in enumerate(layers):
        for slot in range(slots):
            having = [i for i, example in enumerate(examples) if slot < len(example.special)]
            seen = [chance[i, :, : len(examples[i].token), examples[i].special[slot]].mean() for i in having]
            mass[number, slot] = torch.stack(seen).mean() if seen else 0.0
    return mass


@pytest.mark.parametrize("per_batch", [32, 4, 1])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_it_is_the_mean_of_what_transformers_reports(family: str, per_batch: int) -> None:
    """Singles and pairs of very different lengths, so that there are buckets with padding and
    slots that some lack.
    """
    examples = random_examples(family, LENGTHS)
    assert {len(example.special) for example in examples} == {2, 3}
    ours = attention_mass(tiny_encoder(family), examples, 3, per_batch)
    torch.testing.assert_close(ours, slow_mass(family, examples, 3), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "deberta-v3", "modernbert", "albert", "mpnet", "distilbert"]
)
def test_a_layer_pays_no_more_than_all_its_attention(family: str) -> None:
    encoder = tiny_encoder(family)
    pairs = [example for example in random_examples(family, (9, 12, 7, 30)) if len(example.special) == 3] * 2
    mass = attention_mass(encoder, pairs, 3)
    assert mass.shape == (len(encoder.layers), 3)
    assert (mass > 0).all()
    assert (mass.sum(1) <= 1 + 1e-6).all()


def test_a_slot_that_no_example_has_gets_nothing() -> None:
    examples = random_examples("bert", (5,))
    mass = attention_mass(tiny_encoder("bert"), examples, 4)
    assert mass.shape == (3, 4)
    assert not mass[:, 2:].any()
    torch.testing.assert_close(mass[:, :2], slow_mass("bert", examples, 2))


def test_measuring_uses_no_dropout_and_leaves_the_mode_as_it_was() -> None:
    encoder = tiny_encoder("bert")
    examples = random_examples("bert", LENGTHS)
    calm = attention_mass(encoder.eval(), examples, 3)
    assert torch.equal(attention_mass(encoder.train(), examples, 3), calm)
    assert encoder.training
