"""BERT and RoBERTa written the slow way, from a transformers model's weights: one example, one
head, one query at a time.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from softcue.batch import Example

Before = Callable[[int, Tensor], Tensor]  # (layer, hidden (T, D)) -> hidden
Front = Callable[[int, Tensor], tuple[Tensor, Tensor]]  # (layer, hidden) -> keys and values (P, D)
Gate = Callable[[Tensor], Tensor]  # scores (P,) -> factors (P,)


def encode(
    model: PreTrainedModel,
    example: Example,
    before: Before = lambda layer, hidden: hidden,
    front: Front | None = None,
    gate: Gate | None = None,
    shift: int = 0,
    words: Tensor | None = None,  # (P, E) word vectors to stand in front of the text
    rows: Tensor | None = None,  # (P, D) hidden states to stand in front of the text at the first layer
) -> Tensor:
    """(T, D) hidden states after the last layer, of rows in front too."""
    hidden = embed(model, example, shift, words)
    hidden = hidden if rows is None else torch.cat([rows, hidden])
    for number, layer in enumerate(model.encoder.layer):
        hidden = before(number, hidden)
        keys, values = (hidden[:0], hidden[:0]) if front is None else front(number, hidden)
        hidden = after_attention(
            layer,
            hidden,
            attend(layer.attention.self, hidden, keys, values, gate, model.config.num_attention_heads),
        )
    return hidden


def embed(model: PreTrainedModel, example: Example, shift: int, words: Tensor | None) -> Tensor:
    """Word + position + segment, normalised; positions of RoBERTa start behind its padding id."""
    table = model.embeddings
    offset = model.config.pad_token_id + 1 if model.config.model_type == "roberta" else 0
    vectors = [table.word_embeddings.weight[token] for token in example.token]
    segments = list(example.segment)
    positions = [shift + i for i in range(len(vectors))]
    if words is not None:
        vectors, segments = [*words, *vectors], [0] * len(words) + segments
        positions = list(range(len(words))) + positions
    summed = [
        vector
        + table.position_embeddings.weight[offset + position]
        + table.token_type_embeddings.weight[segment]
        for vector, position, segment in zip(vectors, positions, segments, strict=True)
    ]
    return table.LayerNorm(torch.stack(summed))


def attend(
    layer: torch.nn.Module, hidden: Tensor, keys: Tensor, values: Tensor, gate: Gate | None, heads: int
) -> Tensor:
    """softmax(q [keys; k]^T / sqrt(K)) [values; v], each prefix column's weight times gate(its score)."""
    query, key, value = (
        layer.query(hidden),
        torch.cat([keys, layer.key(hidden)]),
        torch.cat([values, layer.value(hidden)]),
    )
    width, columns = hidden.shape[1] // heads, []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        rows = []
        for row in range(len(hidden)):
            score = key[:, part] @ query[row, part] / width**0.5
            weight = torch.exp(score - score.max().detach())
            if gate is not None:
                weight = torch.cat([weight[: len(keys)] * gate(score[: len(keys)]), weight[len(keys) :]])
            rows.append(weight / weight.sum() @ value[:, part])
        columns.append(torch.stack(rows))
    return torch.cat(columns, dim=1)


def after_attention(layer: torch.nn.Module, hidden: Tensor, mixed: Tensor) -> Tensor:
    """The rest of a post-norm layer."""
    first = layer.attention.output
    hidden = first.LayerNorm(hidden + first.dense(mixed))
    return layer.output.LayerNorm(hidden + layer.output.dense(F.gelu(layer.intermediate.dense(hidden))))
