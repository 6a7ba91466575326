"""The layers of each family as nodes of a graph, and what their attention makes of distances."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from softcue.encoder.albert import AlbertLayer
from softcue.encoder.bert import DistilbertLayer
from softcue.encoder.core import Encoder
from softcue.encoder.deberta import DebertaEncoder, DebertaLayer
from softcue.encoder.layer import Layer
from softcue.encoder.modernbert import ModernbertEncoder, ModernbertLayer
from softcue.encoder.mpnet import MpnetEncoder, bucket_of
from softcue.encoder.spec import Spec
from softcue.errors import BackboneError
from softcue.interop.onnx_cues import Rows, Seated, edited, prefix_of, rescored
from softcue.interop.onnx_nodes import Nodes, NodeValue

HIDDEN = torch.finfo(torch.float32).min  # logit towards what is not seen; with -inf padding could become NaN
BY_HEAD, BY_HEAD_TURNED = (0, 2, 1, 3), (0, 2, 3, 1)  # (B, U, H, K) -> (B, H, U, K) and (B, H, K, U)
# what a layer's attention makes of the logits between rows, from its query and key:
# (B, H, U, U), (B, H, U, K) scaled, (B, H, U, K) -> (B, H, U, U)
ScoreDistances = Callable[[NodeValue, NodeValue, NodeValue], NodeValue]
LayerWriter = Callable[[int, NodeValue], NodeValue]  # (number, its input) -> its output


@dataclass(frozen=True)
class Forward:
    """What all layers of a graph share."""

    nodes: Nodes
    spec: Spec
    rows: Rows
    own: Seated

    def cut(self, x: NodeValue) -> NodeValue:
        """Cut rows by head: (B, U, D) -> (B, U, H, K)."""
        return self.nodes.Reshape(x, [0, 0, self.spec.heads, self.spec.dims.head])

    def edited(self, site: str, number: int, x: NodeValue, y: NodeValue) -> NodeValue:
        """Add what the adapters add to the output of one map of a layer."""
        return edited(self.nodes, site, number, x, y, self.own)

    def distance(self) -> NodeValue:
        """Return how far each key is behind each query: (B|1, U, U)."""
        index = self.rows.index
        return self.nodes.Sub(self.nodes.Unsqueeze(index, [1]), self.nodes.Unsqueeze(index, [2]))

    def by_distance(self, table: Callable[[Tensor], Tensor]) -> NodeValue:
        """Look up, for each query and key, the row of their distance: (distances,) -> (B|1, U, U, ..).

        table: gives a row for each distance, key less query.
        """
        most = self.spec.positions - 1
        rows = table(torch.arange(-most, most + 1))
        # only rows of padding lie further apart
        place = self.nodes.Clip(self.nodes.Add(self.distance(), most), 0, 2 * most)
        return self.nodes.Gather(self.nodes.weight(rows), place, axis=0)


def layer_writer(forward: Forward, encoder: Encoder) -> LayerWriter:
    """Return what writes an encoder's layers, one by one; check_family has passed it."""
    return LAYERS[type(encoder)](forward, encoder)


def check_family(encoder: Encoder, name: str) -> None:
    """Refuse an encoder whose equations are not here. Raises BackboneError."""
    parts = {type(encoder), *(type(layer) for layer in encoder.layers)}
    unknown = sorted(part.__name__ for part in parts - KNOWN_LAYERS - LAYERS.keys())
    if unknown:
        raise BackboneError(
            f"backbone {name!r} has no ONNX form, because of its {', '.join(unknown)}; expected BERT, "
            "RoBERTa, XLM-R, CamemBERT, ELECTRA, DistilBERT, ALBERT, MPNet, ModernBERT, or DeBERTa without a "
            "convolution"
        )


def _plain(forward: Forward, encoder: Encoder) -> LayerWriter:
    return lambda number, hidden: _post_norm(
        forward, encoder, number, hidden, lambda scores, query, key: scores
    )


def _mpnet(forward: Forward, encoder: Encoder) -> LayerWriter:
    nodes, relative = forward.nodes, cast(MpnetEncoder, encoder).relative.weight
    bias = forward.by_distance(lambda distance: relative[bucket_of(distance)])  # (B|1, U, U, H)
    bias = nodes.Transpose(bias, perm=(0, 3, 1, 2))

    def add(scores: NodeValue, query: NodeValue, key: NodeValue) -> NodeValue:
        return nodes.Add(scores, bias)

    return lambda number, hidden: _post_norm(forward, encoder, number, hidden, add)


def _deberta(forward: Forward, encoder: Encoder) -> LayerWriter:
    nodes, own = forward.nodes, cast(DebertaEncoder, encoder)
    if own.relative is None or not own.distances.terms:
        return _plain(forward, encoder)
    table = own.relative.weight if own.relative_norm is None else own.relative_norm(own.relative.weight)
    # its distances are query less key
    row = forward.by_distance(lambda distance: own.distances.row(-distance))  # (B|1, U, U)
    row = nodes.Unsqueeze(row, [1])
    turned = nodes.Transpose(row, perm=(0, 1, 3, 2))

    def write(number: int, hidden: NodeValue) -> NodeValue:
        layer = cast(DebertaLayer, encoder.layers[number])

        def read(x: NodeValue, part: int, places: NodeValue, like: NodeValue) -> NodeValue:
            """Return the products with the vectors of the places: (B, H, U, K) -> (B, H, U, U)."""
            linear = layer.place_key if part else layer.place_query
            vectors = nodes.weight(layer.project(table, part, linear))  # (H, K, W)
            places = nodes.Expand(places, nodes.Shape(like))
            return nodes.GatherElements(nodes.MatMul(x, vectors), places, axis=-1)

        def add(scores: NodeValue, query: NodeValue, key: NodeValue) -> NodeValue:
            made = scores
            if "c2p" in own.distances.terms:
                made = nodes.Add(made, read(query, 1, row, scores))
            if "p2c" in own.distances.terms:
                of_key = read(nodes.Mul(key, layer.scale()), 0, turned, scores)
                made = nodes.Add(made, nodes.Transpose(of_key, perm=(0, 1, 3, 2)))
            return made

        return _post_norm(forward, encoder, number, hidden, add)

    return write


def _modernbert(forward: Forward, encoder: Encoder) -> LayerWriter:
    nodes, own = forward.nodes, cast(ModernbertEncoder, encoder)
    # a prefix has no position, so that it is not the same wherever the text begins
    position = nodes.Unsqueeze(nodes.cast(forward.rows.position, "FLOAT"), [2, 3])  # (B, U, 1, 1)
    turn = {}
    for theta in own.thetas:
        width = forward.spec.dims.head
        frequency = theta ** -(torch.arange(0, width, 2, dtype=torch.float32) / width)
        angle = nodes.Mul(position, nodes.weight(frequency.repeat(2)))
        turn[theta] = nodes.Cos(angle), nodes.Sin(angle)
    near = nodes.Unsqueeze(nodes.LessOrEqual(nodes.Abs(forward.distance()), own.reach), [1])

    def hide(scores: NodeValue, query: NodeValue, key: NodeValue) -> NodeValue:
        return nodes.Where(near, scores, HIDDEN)

    def write(number: int, hidden: NodeValue) -> NodeValue:
        layer = cast(ModernbertLayer, encoder.layers[number])
        cosine, sine = turn[layer.theta]

        def turned(x: NodeValue) -> NodeValue:
            left, right = nodes.parts(x, 2)
            across = nodes.Concat(nodes.Neg(right), left, axis=-1)
            return nodes.Add(nodes.Mul(x, cosine), nodes.Mul(across, sine))

        distances = hide if layer.local else lambda scores, query, key: scores
        return _pre_norm(forward, layer, number, hidden, distances, turned)

    return write


def _post_norm(
    forward: Forward, encoder: Encoder, number: int, hidden: NodeValue, distances: ScoreDistances
) -> NodeValue:
    """Write a layer of BERT's kind: (B, U, D) -> (B, U, D)."""
    nodes, edit, layer = forward.nodes, forward.edited, cast(Layer, encoder.layers[number])
    prefix = prefix_of(nodes, number, hidden, forward.rows, forward.own)
    parts = nodes.parts(nodes.linear(layer.qkv, hidden), 3)
    query, key, value = (
        forward.cut(edit(site, number, hidden, y))
        for site, y in zip(("query", "key", "value"), parts, strict=True)
    )
    mixed = _attention(forward, query, key, value, prefix, layer.scale(), distances)
    out = edit("out", number, mixed, nodes.linear(layer.out, mixed))
    hidden = edit("norm1", number, hidden, nodes.norm(layer.norm1, nodes.Add(hidden, out)))
    wide = edit("up", number, hidden, nodes.linear(layer.up, hidden))
    wide = nodes.activation(forward.spec.activation, wide)
    down = edit("down", number, wide, nodes.linear(layer.down, wide))
    return edit("norm2", number, hidden, nodes.norm(layer.norm2, nodes.Add(hidden, down)))


def _pre_norm(
    forward: Forward,
    layer: ModernbertLayer,
    number: int,
    hidden: NodeValue,
    distances: ScoreDistances,
    turned: Callable[[NodeValue], NodeValue],
) -> NodeValue:
    """Write a layer of ModernBERT's kind, which turns queries and keys: (B, U, D) -> (B, U, D)."""
    nodes, edit = forward.nodes, forward.edited
    prefix = prefix_of(nodes, number, hidden, forward.rows, forward.own)
    normed = edit("norm1", number, hidden, nodes.norm(layer.norm1, hidden))
    parts = nodes.parts(nodes.linear(layer.qkv, normed), 3)
    query, key, value = (
        forward.cut(edit(site, number, normed, y))
        for site, y in zip(("query", "key", "value"), parts, strict=True)
    )
    mixed = _attention(forward, turned(query), turned(key), value, prefix, None, distances)
    hidden = nodes.Add(hidden, edit("out", number, mixed, nodes.linear(layer.out, mixed)))
    normed = edit("norm2", number, hidden, nodes.norm(layer.norm2, hidden))
    wide, gate = nodes.parts(edit("up", number, normed, nodes.linear(layer.up, normed)), 2)
    wide = nodes.Mul(nodes.activation(forward.spec.activation, wide), gate)
    return nodes.Add(hidden, edit("down", number, wide, nodes.linear(layer.down, wide)))


def _attention(
    forward: Forward,
    query: NodeValue,  # (B, U, H, K), as key and value
    key: NodeValue,
    value: NodeValue,
    prefix: tuple[NodeValue, NodeValue, NodeValue] | None,
    scale: float | None,
    distances: ScoreDistances,
) -> NodeValue:
    """Let rows look at the prefix and each other: -> (B, U, D)."""
    nodes, spec = forward.nodes, forward.spec
    query, key, value = (nodes.Transpose(x, perm=BY_HEAD) for x in (query, key, value))
    query = nodes.Mul(query, spec.dims.head**-0.5 if scale is None else scale)
    scores = nodes.MatMul(query, nodes.Transpose(key, perm=(0, 1, 3, 2)))
    scores = distances(scores, query, key)
    scores = nodes.Where(nodes.Unsqueeze(forward.rows.seen, [1, 2]), scores, HIDDEN)
    if prefix is not None:
        own_key, own_value, seen = prefix
        ahead = nodes.MatMul(query, nodes.Transpose(own_key, perm=BY_HEAD_TURNED))  # (B, H, U, P)
        ahead = nodes.Where(nodes.Unsqueeze(seen, [1, 2]), rescored(nodes, ahead, forward.own), HIDDEN)
        scores = nodes.Concat(ahead, scores, axis=-1)
        value = nodes.Concat(nodes.Transpose(own_value, perm=BY_HEAD), value, axis=2)
    mixed = nodes.MatMul(nodes.Softmax(scores, axis=-1), value)
    return nodes.Reshape(nodes.Transpose(mixed, perm=BY_HEAD), [0, 0, spec.hidden])


LAYERS: Mapping[type[Encoder], Callable[[Forward, Encoder], LayerWriter]] = {
    Encoder: _plain,
    MpnetEncoder: _mpnet,
    DebertaEncoder: _deberta,
    ModernbertEncoder: _modernbert,
}
KNOWN_LAYERS: frozenset[type] = frozenset(
    (Layer, DistilbertLayer, AlbertLayer, DebertaLayer, ModernbertLayer)
)
