"""BitFit against an encoder whose biases were changed."""

import torch

from softcue.batch import pack
from softcue.protocol import Context, Cue
from tests.cues.cue_cases import (
    BERT_LARGE,
    SEATS,
    TOTALS,
    Counted,
    Own,
    build,
    case,
    close,
    count,
    forward,
    texts,
)
from tests.encoder.slow_bert import encode

OWN = Own(
    small={},
    counted=[Counted({}, {"bert-base": 102_912, "bert-large": 272_384, "roberta-base": 102_144})],
)


def test_bitfit_is_the_encoder_with_changed_biases() -> None:
    """Each seat's numbers added to a copy of the transformers model give the same hidden states."""
    sites = {"query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value"}
    sites |= {"out": "attention.output.dense", "up": "intermediate.dense", "down": "output.dense"}
    norms = {"norm1": "attention.output.LayerNorm", "norm2": "output.LayerNorm"}
    _, encoder = case("bert")
    bitfit = build("bitfit", encoder)
    for seat in range(3):
        biased = case("bert")[0]
        for number in range(3):
            for site, path in (sites | norms).items():
                biased.encoder.layer[number].get_submodule(path).bias.data += bitfit.every_layer[site][
                    seat, number
                ].detach()
        biased.embeddings.LayerNorm.bias.data += bitfit.once["embed_norm"][seat].detach()
        examples = texts("bert")
        close(forward(encoder, bitfit, examples, [seat] * 5), [encode(biased, e) for e in examples])


def test_bitfit_changes_the_pooler_of_each_example_by_its_own_bias() -> None:
    _, encoder = case("bert")
    bitfit = build("bitfit", encoder)
    batch = pack(texts("bert"), SEATS)
    y = torch.zeros(5, encoder.dims.hidden)
    out = bitfit.on_affine(2, "pooler", torch.zeros_like(y), y, Context(batch))
    close([out], [torch.stack([bitfit.once["pooler"][seat] for seat in batch.seats])])


def test_a_fresh_bitfit_is_the_bare_encoder() -> None:
    _, encoder = case("bert")
    bare = forward(encoder, build("probe", encoder), texts("bert"), SEATS)
    cue = Cue.registry["bitfit"](encoder.dims, Cue.registry["bitfit"].Config(), 3).train()
    close(forward(encoder, cue, texts("bert"), SEATS), bare, 1e-6)


def test_bitfit_is_the_documented_share_of_bert_large() -> None:
    assert round(100 * count("bitfit", BERT_LARGE) / TOTALS["bert-large-cased"], 2) == 0.08
