"""GPC against its recurrence written the slow way, and against its limits."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from softcue.batch import Example, pack
from softcue.heads import Head
from softcue.model import Model
from softcue.protocol import Context, Cue
from tests.cues.cue_cases import (
    BERT_BASE,
    BERT_LARGE,
    SEATS,
    Counted,
    Own,
    agree,
    build,
    case,
    close,
    count,
    forward,
    texts,
)
from tests.encoder.slow_bert import encode

LENGTH = 5
OWN = Own(
    small={"length": LENGTH},
    counted=[
        Counted({"length": 20}, {"bert-base": 1_195_008, "bert-large": 2_117_632}),
        Counted(
            {"length": 20, "shared": False, "bias": True, "norm": True},
            {"bert-base": 13_016_832, "bert-large": 48_325_632},
        ),
        Counted(
            {"length": 20, "combine": "gate", "init": "normal"},
            {"bert-base": 1_195_008, "bert-large": 2_117_632},
        ),
    ],
    refused=[({"combine": "gate"}, "set init='normal'")],
)


@pytest.mark.parametrize("combine", ["plain", "tanh", "gate"])
@pytest.mark.parametrize("memory", ["previous", "initial"])
@pytest.mark.parametrize("options", [{}, {"shared": False, "bias": True, "norm": True}])
def test_gpc_equals_its_recurrence_written_the_slow_way(combine: str, memory: str, options: dict) -> None:
    def slow(model: PreTrainedModel, cue: Cue, seat: int, example: Example) -> Tensor:
        first = cue.vectors[seat]
        carried = [first]

        def before(layer: int, hidden: Tensor) -> Tensor:
            if layer == 0:
                return hidden
            at = layer - 1 if options else 0
            left, kept = hidden[:LENGTH], first if memory == "initial" else carried[-1]
            new = kept @ cue.remember[seat, at] + left @ cue.forget[seat, at]
            new = new + cue.bias[seat, at] if options else new
            z = torch.sigmoid(new)
            new = {"plain": new, "tanh": torch.tanh(new), "gate": z * kept + (1 - z) * left}[combine]
            if options:
                centred = new - new.mean(-1, keepdim=True)
                unit = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
                new = unit * cue.norm_weight[seat, at] + cue.norm_bias[seat, at]
            carried.append(new)
            return torch.cat([new, hidden[LENGTH:]])

        return encode(model, example, before=before, shift=LENGTH, rows=first)

    cue = build(
        "gpc", case("bert")[1], length=LENGTH, combine=combine, memory=memory, init="normal", **options
    )
    with torch.no_grad():
        cue.remember.mul_(0.2)
        cue.forget.mul_(0.2)
    agree("bert", cue, slow, 2e-5)


def test_gpc_starts_as_prompt_tuning_at_the_first_layer_bit_for_bit() -> None:
    _, encoder = case("roberta")
    prompt = build("prompt", encoder, length=LENGTH, enter="layer")
    gpc = Cue.registry["gpc"](encoder.dims, Cue.registry["gpc"].Config(length=LENGTH), 3).eval()
    with torch.no_grad():
        gpc.vectors.copy_(prompt.vectors)
    for a, b in zip(*(forward(encoder, cue, texts("roberta"), SEATS) for cue in (gpc, prompt)), strict=True):
        assert bool((a == b).all())


def test_gpc_that_forgets_all_and_remembers_all_inserts_the_same_prompt_at_every_layer() -> None:
    model, encoder = case("bert")
    gpc = build("gpc", encoder, length=LENGTH)
    with torch.no_grad():
        gpc.forget.zero_()
        gpc.remember.copy_(torch.eye(encoder.dims.hidden))
    slowly = []
    for seat, example in zip(SEATS, texts("bert"), strict=True):
        prompt = gpc.vectors[seat]
        slowly.append(
            encode(
                model, example, lambda _, h, p=prompt: torch.cat([p, h[LENGTH:]]), shift=LENGTH, rows=prompt
            )
        )
    close(forward(encoder, gpc, texts("bert"), SEATS), slowly)


def test_gpc_leaves_text_rows_alone_before_every_layer() -> None:
    _, encoder = case("bert")
    gpc = build("gpc", encoder, length=LENGTH)
    batch = pack(texts("bert"), SEATS, gpc.reserve, gpc.shift)
    ctx = Context(batch)
    for layer in range(3):
        hidden = torch.randn(len(batch.token), encoder.dims.hidden)
        out = gpc.before_layer(layer, hidden, ctx)
        assert bool((out[batch.is_text] == hidden[batch.is_text]).all())
        assert not bool((out[~batch.is_text] == hidden[~batch.is_text]).any())


def test_the_cell_learns_at_a_share_of_the_prompts_rate() -> None:
    _, encoder = case("bert")
    gpc = build("gpc", encoder, length=LENGTH, cell_rate=0.1, bias=True, norm=True)
    assert gpc.rate_shares() == dict.fromkeys(("remember", "forget", "bias", "norm_weight", "norm_bias"), 0.1)
    model = Model.single(
        encoder,
        gpc,
        Head("classify", encoder.dims.hidden, [2] * gpc.vectors.shape[0], "cls"),
        gpc.vectors.shape[0],
    )
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    shares = dict(zip(names, model.rate_shares(), strict=True))
    own = {name.rpartition(".")[2]: shares.pop(name) for name in names if name.startswith("mixture.")}
    assert own == {"vectors": 1.0, **gpc.rate_shares()}
    assert set(shares.values()) == {None}  # the head's: each job's own


def test_a_shared_cell_is_the_documented_number_more_than_the_prompt() -> None:
    assert count("gpc", BERT_BASE, length=20) - count("prompt", BERT_BASE, length=20) == 1_179_648
    assert count("gpc", BERT_LARGE, length=20) - count("prompt", BERT_LARGE, length=20) == 2_097_152
