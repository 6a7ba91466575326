"""The graph of one encoder: padded examples and adapters' tensors to logits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from softcue.encoder.core import Encoder
from softcue.interop.onnx_cues import Rows, Seated, edited, graph_rows, mean_of, prompted, zeros_in_front
from softcue.interop.onnx_layers import Forward, layer_writer
from softcue.interop.onnx_nodes import Axis, Nodes, NodeValue
from softcue.interop.onnx_runner import FREE, OUTPUTS, TOKEN_INPUTS
from softcue.interop.onnx_tensors import GRAPH_INPUTS, sizes


@torch.no_grad()
def write_graph(encoder: Encoder, present: Sequence[str], file: Path) -> None:
    """Write the forward pass with the inputs of GRAPH_INPUTS that are present; weights go beside the file.

    Letters of shapes: B examples, T tokens, R rows in front, U = R + T; others as in GRAPH_INPUTS.
    """
    nodes = Nodes()
    rows: Sequence[Axis] = ("examples", "tokens")
    given = {name: nodes.input(name, torch.int64, rows) for name in TOKEN_INPUTS}
    seat = nodes.input("seat", torch.int64, rows[:1])
    named: dict[str, Axis] = {**sizes(encoder.dims), **FREE}
    tables = {
        key: nodes.input(
            key, GRAPH_INPUTS[key].dtype, ["adapters", *(named[x] for x in GRAPH_INPUTS[key].axes)]
        )
        for key in present
    }
    of_examples, of_tokens = forward_pass(nodes, encoder, given, Seated(nodes, tables, seat))
    outputs: Sequence[tuple[NodeValue, Sequence[Axis]]] = (
        (of_examples, ("examples", FREE["C"])),
        (of_tokens, (*rows, FREE["C"])),
    )
    nodes.write(dict(zip(OUTPUTS, outputs, strict=True)), file)


def forward_pass(
    nodes: Nodes, encoder: Encoder, given: Mapping[str, NodeValue], own: Seated
) -> tuple[NodeValue, NodeValue]:
    """Return logits of the examples, (B, C), and of their tokens, (B, T, C).

    given: by the names of TOKEN_INPUTS, (B, T) each.
    """
    spec = encoder.spec
    rows = graph_rows(nodes, given["slot"], given["mask"], own)
    layer = layer_writer(Forward(nodes, spec, rows, own), encoder)
    hidden = embedded(nodes, encoder, given["token"], given["segment"], rows, own)
    memory: NodeValue | None = None
    for number in range(spec.layers):
        hidden, memory = prompted(nodes, number, hidden, memory, rows, own)
        if rows.slots is not None:
            hidden = nodes.Add(hidden, nodes.MatMul(rows.slots, own("delta", number)))
        hidden = layer(number, hidden)
    if encoder.norm is not None:
        hidden = nodes.norm(encoder.norm, hidden)
    return logits(nodes, encoder, hidden, rows, own)


def embedded(
    nodes: Nodes, encoder: Encoder, token: NodeValue, segment: NodeValue, rows: Rows, own: Seated
) -> NodeValue:
    """Return the first layer's input: (B, T), (B, T) -> (B, U, D)."""
    embed, spec = encoder.embed, encoder.spec
    word = nodes.Gather(nodes.weight(embed.words.weight), token, axis=0)
    if rows.front is not None:
        none = zeros_in_front(nodes, rows.front)
        blank = nodes.Mul(nodes.Unsqueeze(rows.front, [-1]), nodes.weight(torch.zeros(spec.embed)))
        word = nodes.Concat(own("words") if "words" in own else blank, word, axis=1)
        segment = nodes.Concat(none, segment, axis=1)
    if embed.position is not None:
        # only rows of padding lie beyond the table
        place = nodes.Add(nodes.Min(rows.position, spec.positions - 1), spec.offset)
        word = nodes.Add(word, nodes.Gather(nodes.weight(embed.position.weight), place, axis=0))
    if embed.segment is not None:
        segment = nodes.Min(segment, spec.segments - 1)
        word = nodes.Add(word, nodes.Gather(nodes.weight(embed.segment.weight), segment, axis=0))
    if embed.project is not None and spec.norm_last:
        word = nodes.linear(embed.project, word)
    hidden = nodes.norm(embed.norm, word)
    hidden = edited(nodes, "embed_norm", None, word, hidden, own)
    if embed.project is not None and not spec.norm_last:
        hidden = nodes.linear(embed.project, hidden)
    return hidden


def logits(
    nodes: Nodes, encoder: Encoder, hidden: NodeValue, rows: Rows, own: Seated
) -> tuple[NodeValue, NodeValue]:
    """Return logits of the examples and of the tokens: (B, U, D) -> (B, C), (B, T, C)."""
    text, head = hidden, nodes.of(hidden, 0, 1)  # head: the example's first row, a prompt's where it has one
    first = head
    if rows.front is not None:
        text = nodes.after(hidden, rows.ahead)
        first = nodes.of(text, 0, 1)
        has_prompt = nodes.Greater(nodes.until(rows.front, [1]), 0.0)
        head = nodes.Where(has_prompt, head, first)
    features = [first, mean_of(nodes, text, rows)]
    if encoder.pooler is not None:
        features += [pooled(nodes, encoder, row, own) for row in (first, head)]
    read = nodes.Sum(
        *(nodes.Mul(nodes.Gather(own("pooling"), [i], axis=1), x) for i, x in enumerate(features))
    )
    weight, bias = nodes.Transpose(own("head_weight"), perm=(0, 2, 1)), nodes.Unsqueeze(own("head_bias"), [1])
    of_example = nodes.Add(nodes.MatMul(nodes.Unsqueeze(read, [1]), weight), bias)
    return nodes.Squeeze(of_example, [1]), nodes.Add(nodes.MatMul(text, weight), bias)


def pooled(nodes: Nodes, encoder: Encoder, row: NodeValue, own: Seated) -> NodeValue:
    """Apply the checkpoint's own pooler: (B, D) -> (B, D)."""
    assert encoder.pooler is not None
    made = nodes.linear(encoder.pooler, row)
    return nodes.Tanh(nodes.Add(made, own("bias.pooler")) if "bias.pooler" in own else made)
