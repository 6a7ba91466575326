"""LoRA against an encoder whose weights were changed, and its dropout."""

import torch

from softcue.batch import pack
from softcue.protocol import Context, Cue
from tests.cues.cue_cases import SEATS, Counted, Own, build, case, close, forward, text, texts
from tests.encoder.slow_bert import encode

OWN = Own(
    small={},
    counted=[
        Counted({}, {"bert-base": 294_912, "bert-large": 786_432}),
        Counted(
            {"rank": 4, "sites": ("query", "key", "value", "out", "up")},
            {"bert-base": 479_232, "bert-large": 1_277_952},
        ),
    ],
    refused=[
        ({"sites": ("query", "query")}, "each once"),
        ({"sites": ("down",)}, "expected one or more of query, key, value, out, up"),
    ],
)


def test_lora_is_the_encoder_with_changed_weights() -> None:
    """Each seat's numbers folded into a copy of the transformers model give the same hidden states."""
    sites = {"query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value"}
    sites |= {"out": "attention.output.dense", "up": "intermediate.dense"}
    _, encoder = case("bert")
    lora = build("lora", encoder, rank=2, alpha=3.0, sites=("query", "key", "value", "out", "up"))
    with torch.no_grad():
        for matrix in lora.parameters():
            matrix.mul_(0.3)  # at full size the softmax is so sharp that float32 rounding alone exceeds 1e-5
    for seat in range(3):
        folded = case("bert")[0]
        for number in range(3):
            for site in lora.config.sites:
                module = folded.encoder.layer[number].get_submodule(sites[site])
                module.weight.data += (
                    1.5 * (lora.shrink[site][seat, number] @ lora.grow[site][seat, number]).detach().T
                )
        examples = texts("bert")
        close(forward(encoder, lora, examples, [seat] * 5), [encode(folded, e) for e in examples])


def test_a_fresh_lora_is_the_bare_encoder() -> None:
    _, encoder = case("bert")
    bare = forward(encoder, build("probe", encoder), texts("bert"), SEATS)
    cue = Cue.registry["lora"](encoder.dims, Cue.registry["lora"].Config(), 3).train()
    close(forward(encoder, cue, texts("bert"), SEATS), bare, 1e-6)


@torch.inference_mode()
def test_a_fresh_lora_serves_what_the_bare_encoder_does_bit_for_bit() -> None:
    _, encoder = case("bert")
    fresh = Cue.registry["lora"](encoder.dims, Cue.registry["lora"].Config(), 3).eval()
    bare, served = (forward(encoder, cue, texts("bert"), SEATS) for cue in (build("probe", encoder), fresh))
    assert all(torch.equal(a, b) for a, b in zip(served, bare, strict=True))


def test_lora_drops_its_input_by_the_rate_of_each_seat() -> None:
    _, encoder = case("bert")
    cue = build("lora", encoder, adapters=2, rank=2)
    cue.configure(1, type(cue).Config(rank=2, dropout=0.5))
    cue.train()
    batch = pack([text("bert", 8)] * 2, [0, 1])
    x = torch.ones(len(batch.token), encoder.dims.hidden)
    ctx = Context(batch)
    cue.before_layer(0, x, ctx)
    out = cue.on_affine(0, "value", x, torch.zeros_like(x), ctx)
    half = len(out) // 2
    assert float(out[:half].detach().std(0).max()) < 1e-6
    assert float(out[half:].detach().std(0).min()) > 1e-3
