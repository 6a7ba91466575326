"""The published checkpoints' totals, from encoders built without allocating weights, and every
method's numbers on them.
"""

from typing import Any

import pytest
import torch
from transformers import BertConfig, RobertaConfig

from softcue.cues import Cue
from softcue.encoder.load import build_encoder
from tests.contract.cases import settled

BASE = {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
LARGE = {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
CHECKPOINTS = {
    "bert-base-cased": (BertConfig, {**BASE, "vocab_size": 28996}, 108_310_272),
    "bert-base-uncased": (BertConfig, {**BASE, "vocab_size": 30522}, 109_482_240),
    "bert-large-cased": (BertConfig, {**LARGE, "vocab_size": 28996}, 333_579_264),
    "bert-large-uncased": (BertConfig, {**LARGE, "vocab_size": 30522}, 335_141_888),
    "roberta-base": (RobertaConfig, {**BASE, **ROBERTA}, 124_645_632),
    "roberta-large": (RobertaConfig, {**LARGE, **ROBERTA}, 355_359_744),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_an_encoder_without_weights_has_the_checkpoints_total_and_every_cue_its_formula(name: str) -> None:
    kind, sizes, total = CHECKPOINTS[name]
    config: dict[str, Any] = kind(**sizes).to_dict()
    encoder = build_encoder(config)
    assert all(p.is_meta for p in encoder.parameters())
    assert sum(p.numel() for p in encoder.parameters()) == total
    for method, cls in Cue.registry.items():
        settings = settled(method, encoder.dims)
        with torch.device("meta"):
            cue = cls(encoder.dims, settings)
        assert sum(p.numel() for p in cue.parameters()) == cls.count(encoder.dims, settings), method
