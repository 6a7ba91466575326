"""Tiny random transformers models of every family, their saved folders, our encoders with the
same weights, and examples.
"""

import copy
import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from softcue.batch import Batch, Example
from softcue.encoder.core import Encoder
from softcue.encoder.load import load_encoder
from softcue.errors import BackboneError
from softcue.protocol import Cue

VOCABULARY, HIDDEN, LAYERS, HEADS, FF, POSITIONS = 120, 32, 3, 4, 37, 64
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": FF,
    "max_position_embeddings": POSITIONS,
}
MODERN: dict[str, Any] = {
    **SIZES,
    "num_hidden_layers": 4,
    "local_attention": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MODERN |= {
    "cls_token_id": 1,
    "sep_token_id": 2,
    "attention_dropout": 0.1,
    "mlp_dropout": 0.1,
    "embedding_dropout": 0.1,
}
ALBERT: dict[str, Any] = {
    **SIZES,
    "embedding_size": 20,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
DISENTANGLED: dict[str, Any] = {
    **SIZES,
    "relative_attention": True,
    "type_vocab_size": 0,
    "position_biased_input": False,
}
V3: dict[str, Any] = {
    **DISENTANGLED,
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
}
UNSHARED: dict[str, Any] = {
    **DISENTANGLED,
    "share_att_key": False,
    "pos_att_type": "c2p|p2c",
    "position_buckets": -1,
    "position_biased_input": True,
}
DISTIL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "dim": HIDDEN,
    "n_layers": LAYERS,
    "n_heads": HEADS,
    "hidden_dim": FF,
    "max_position_embeddings": POSITIONS,
}


def build(kind: str, sizes: dict[str, Any]) -> PreTrainedModel:
    """A transformers model with eager attention."""
    config = getattr(transformers, f"{kind}Config")(**sizes)
    config._attn_implementation = "eager"
    return getattr(transformers, f"{kind}Model")(config)


TINY: dict[str, partial[PreTrainedModel]] = {
    "bert": partial(build, "Bert", SIZES),
    "roberta": partial(build, "Roberta", {**SIZES, "type_vocab_size": 1, "pad_token_id": 1}),
    "xlm-roberta": partial(build, "XLMRoberta", {**SIZES, "type_vocab_size": 1, "pad_token_id": 1}),
    "camembert": partial(build, "Camembert", {**SIZES, "type_vocab_size": 1, "pad_token_id": 1}),
    "electra": partial(build, "Electra", {**SIZES, "embedding_size": 20}),
    "distilbert": partial(build, "DistilBert", DISTIL),
    "mpnet": partial(build, "MPNet", {**SIZES, "max_position_embeddings": POSITIONS + 2}),
    "albert": partial(build, "Albert", ALBERT),
    "deberta-v3": partial(build, "DebertaV2", V3),
    "deberta-v2-conv": partial(
        build, "DebertaV2", {**V3, "conv_kernel_size": 3, "conv_act": "gelu", "embedding_size": 20}
    ),
    "deberta-v2-unshared": partial(build, "DebertaV2", {**UNSHARED, "type_vocab_size": 2}),
    "deberta-v2-c2p": partial(
        build, "DebertaV2", {**UNSHARED, "pos_att_type": ["c2p"], "position_buckets": 16}
    ),
    "deberta-v2-p2c": partial(
        build, "DebertaV2", {**UNSHARED, "pos_att_type": ["p2c"], "max_relative_positions": 20}
    ),
    "modernbert": partial(build, "ModernBert", MODERN),
    "modernbert-bias": partial(
        build, "ModernBert", {**MODERN, "norm_bias": True, "attention_bias": True, "mlp_bias": True}
    ),
}


class Nothing(Cue):
    """A cue that changes nothing."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)


def tiny_hf(family: str, seed: int = 0, settings: Mapping[str, Any] | None = None) -> PreTrainedModel:
    """A model whose attention is far from even, and whose norms and biases are far from
    trivial; `settings` change its config.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        kind, sizes = TINY[family].args
        model = build(kind, {**sizes, **(settings or {})})
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn_like(parameter)
                parameter.copy_(0.2 * noise if parameter.dim() > 1 else parameter + 0.1 * noise)
    return model.eval()


def tiny_folder(family: str, parent: Path, seed: int = 0) -> Path:
    """The folder under `parent` that the model was saved in."""
    folder = parent / f"{family}-{seed}"
    tiny_hf(family, seed).save_pretrained(folder)
    return folder


def tiny_encoder(family: str, seed: int = 0) -> Encoder:
    """Our encoder with the same weights, the caller's own to change."""
    return copy.deepcopy(_loaded(family, seed))


@cache
def _loaded(family: str, seed: int) -> Encoder:
    with tempfile.TemporaryDirectory() as parent:
        return load_encoder(tiny_folder(family, Path(parent), seed)).encoder


def random_examples(family: str, lengths: Sequence[int], seed: int = 0) -> list[Example]:
    """Examples of the family's tokens; every other one of at least 5 is a pair of texts, with
    three special slots.
    """
    chance = random.Random(f"{family} {seed}")
    examples = []
    for i, length in enumerate(lengths):
        token = [chance.randrange(5, VOCABULARY) for _ in range(length)]
        middle = chance.randrange(2, length - 2) if i % 2 and length >= 5 else length - 1
        special = sorted({0, middle, length - 1})
        segment = [int(place > middle) for place in range(length)]
        words = range(1, length - 1)
        examples.append(Example(token, segment, special, [place for place in words if place not in special]))
    return examples


def padded(model: PreTrainedModel, examples: Sequence[Example]) -> dict[str, Tensor]:
    """The same examples as transformers takes them."""
    longest = max(len(example.token) for example in examples)
    pad = model.config.pad_token_id or 0
    inputs = {
        "input_ids": torch.tensor([[*e.token, *[pad] * (longest - len(e.token))] for e in examples]),
        "attention_mask": torch.tensor(
            [[1] * len(e.token) + [0] * (longest - len(e.token)) for e in examples]
        ),
    }
    segments = (
        getattr(model.config, "type_vocab_size", 0)
        if model.config.model_type not in ("mpnet", "distilbert", "modernbert")
        else 0
    )
    if segments:
        segment = torch.tensor([[*e.segment, *[0] * (longest - len(e.token))] for e in examples])
        inputs["token_type_ids"] = segment.clamp(max=segments - 1)
    return inputs


def real_rows(hidden: Tensor, batch: Batch) -> Tensor:
    """(B, T, D) in the order of the request -> (N, D) in the batch's order, padding left out."""
    return torch.cat(
        [hidden[number, :length] for number, length in zip(batch.order, batch.lengths, strict=True)]
    )


def edit_config(folder: Path, **changes: Any) -> None:
    """Change config.json; None takes a setting out."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def edit_weights(folder: Path, **changes: Tensor | None) -> dict[str, Tensor]:
    """Change model.safetensors and return what it holds now; None takes a weight out."""
    values = {**load_file(folder / "model.safetensors"), **changes}
    kept = {name: value.contiguous() for name, value in values.items() if value is not None}
    save_file(kept, folder / "model.safetensors")
    return kept


def refusal(name: Path | str) -> str:
    """The one line that load_encoder refuses `name` with."""
    with pytest.raises(BackboneError) as caught:
        load_encoder(name)
    message = str(caught.value)
    assert "\n" not in message
    return message
