"""What every layer sees, written the slow way from a transformers model: one example, one head at a time."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from softcue.adapter import Adapter
from softcue.batch import Example
from softcue.inspection.subject import Subject, open_subject
from softcue.readers import Data
from tests.answering.test_predict import random_adapter
from tests.encoder.slow_bert import encode
from tests.tiny import tiny_hf
from tests.tiny_base import tiny_base, tiny_data


class Seen(NamedTuple):
    """One layer's view of one example."""

    hidden: Tensor  # (t, D) its input, after the cue
    chance: Tensor  # (H, t, P + t)
    score: Tensor  # (H, t, P + t) logits


def opened(
    method: str, kind: str = "classify", pair: bool = False, rows: int = 256, **changes: Any
) -> Subject:
    """A random adapter over the tiny BERT, before the test rows of a tiny data set."""
    adapter = random_adapter(tiny_base(), method, kind, pair, **changes)
    return open_subject(adapter, tiny_data(kind, pair=pair), backbone=tiny_base(), rows=rows)


def pair_of(method: str, kind: str = "classify", pair: bool = False) -> tuple[Adapter, Data]:
    """The same adapter and data."""
    return random_adapter(tiny_base(), method, kind, pair), tiny_data(kind, pair=pair)


def seen(example: Example, **how: Any) -> list[Seen]:
    """Walk through the layers; `how` is as encode() takes it. The gate multiplies prefix weights."""
    model, found = tiny_hf("bert").eval(), list[Seen]()
    front, gate = how.get("front"), how.get("gate")
    heads = model.config.num_attention_heads

    def keeping(number: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = (hidden[:0], hidden[:0]) if front is None else front(number, hidden)
        own = model.encoder.layer[number].attention.self
        query, key = own.query(hidden), torch.cat([keys, own.key(hidden)])
        width, scores, chances = hidden.shape[1] // heads, [], []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            score = query[:, part] @ key[:, part].T / width**0.5
            weight = score.exp()
            if gate is not None:
                weight[:, : len(keys)] *= gate(score[:, : len(keys)])
            scores.append(score)
            chances.append(weight / weight.sum(1, keepdim=True))
        found.append(Seen(hidden, torch.stack(chances), torch.stack(scores)))
        return keys, values

    with torch.no_grad():
        encode(model, example, **{**how, "front": keeping})
    return found
