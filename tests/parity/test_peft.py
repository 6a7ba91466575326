"""Agreement with PEFT where it has the same method: prefix tuning, prompt tuning and LoRA on
tiny BERT and RoBERTa.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from softcue.batch import Example
from softcue.protocol import Cue
from tests.cues.cue_cases import FAMILIES, build, case, close, differ, forward, text

# PEFT's, on transformers 5
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

LENGTH = 5
SIZES = (8, 3, 5, 1)


@pytest.fixture(scope="module")
def peft() -> ModuleType:
    """Imported here, since it takes seconds."""
    return pytest.importorskip("peft")


def theirs(model: Any, examples: Sequence[Example], pad: int, front: int = 0) -> list[Tensor]:
    """Hidden states of each example's text rows from one padded batch; `front` rows precede the
    text in the output.
    """
    longest = max(len(e.token) for e in examples)
    ids = torch.tensor([[*e.token, *[pad] * (longest - len(e.token))] for e in examples])
    mask = torch.tensor([[1] * len(e.token) + [0] * (longest - len(e.token)) for e in examples])
    with torch.no_grad():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return [row[front : front + len(e.token)] for row, e in zip(hidden, examples, strict=True)]


def ours(family: str, cue: Cue, examples: Sequence[Example], front: int = 0) -> list[Tensor]:
    """The same rows from one packed forward."""
    return [rows[front:] for rows in forward(case(family)[1], cue, examples, [0] * len(examples))]


def wrapped(peft: ModuleType, family: str, config: Any) -> Any:
    """A tiny model with PEFT's module in it."""
    return peft.get_peft_model(case(family)[0], config).eval()


def examples_of(family: str) -> list[Example]:
    """Single texts of different length: PEFT's prompts drop segments."""
    return [text(family, size) for size in SIZES]


@pytest.mark.parametrize("family", FAMILIES)
def test_ptuning_equals_pefts_prefix_tuning(peft: ModuleType, family: str) -> None:
    """Text positions start at P there too, since past keys count as text: our default shift."""
    config = peft.PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=LENGTH)
    model = wrapped(peft, family, config)
    cue = build("ptuning", case(family)[1], adapters=1, length=LENGTH)
    layers, _, length, heads, width = cue.kv.shape[1:]
    with torch.no_grad():
        table = model.prompt_encoder["default"].embedding.weight
        table.copy_(cue.kv[0].permute(2, 0, 1, 3, 4).reshape(length, layers * 2 * heads * width))
    pad = case(family)[0].config.pad_token_id
    close(ours(family, cue, examples_of(family)), theirs(model, examples_of(family), pad))
    still = build("ptuning", case(family)[1], adapters=1, length=LENGTH, shift=False)
    assert differ(ours(family, still, examples_of(family)), theirs(model, examples_of(family), pad))


@pytest.mark.parametrize("family", FAMILIES)
def test_prompt_tuning_equals_pefts_prompt_tuning(peft: ModuleType, family: str) -> None:
    config = peft.PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=LENGTH)
    model = wrapped(peft, family, config)
    cue = build("prompt", case(family)[1], adapters=1, length=LENGTH)
    with torch.no_grad():
        model.prompt_encoder["default"].embedding.weight.copy_(cue.vectors[0])
    pad = case(family)[0].config.pad_token_id
    close(ours(family, cue, examples_of(family), LENGTH), theirs(model, examples_of(family), pad, LENGTH))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sites", [("query", "value"), ("query", "key", "value", "out", "up")])
def test_lora_equals_pefts_lora(peft: ModuleType, family: str, sites: tuple[str, ...]) -> None:
    names = {"query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value"}
    names |= {"out": "attention.output.dense", "up": "intermediate.dense"}
    config = peft.LoraConfig(
        task_type="FEATURE_EXTRACTION", r=4, lora_alpha=6, target_modules=[names[s] for s in sites]
    )
    model = wrapped(peft, family, config)
    cue = build("lora", case(family)[1], adapters=1, rank=4, alpha=6.0, sites=sites)
    with torch.no_grad():
        for matrix in cue.parameters():
            matrix.mul_(0.3)
        for number, layer in enumerate(model.base_model.model.encoder.layer):
            for site in sites:
                module = layer.get_submodule(names[site])
                module.lora_A["default"].weight.copy_(cue.shrink[site][0, number].T)
                module.lora_B["default"].weight.copy_(cue.grow[site][0, number].T)
    pad = case(family)[0].config.pad_token_id
    close(ours(family, cue, examples_of(family)), theirs(model, examples_of(family), pad))
