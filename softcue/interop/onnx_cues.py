"""What adapters do in a graph: each example is treated by the parameters of its own seat."""

from collections.abc import Mapping
from dataclasses import dataclass

from softcue.interop.onnx_nodes import Nodes, NodeValue

# The places of the input `cell`, by what 1 says there.
IS_CELL, IS_TANH, IS_GATE, IS_NORMED, KEEPS_FIRST = range(5)


class Seated:
    """The adapters' inputs of a graph, each looked up by the seats of the examples."""

    def __init__(self, nodes: Nodes, tables: Mapping[str, NodeValue], seat: NodeValue) -> None:
        self.nodes, self.tables, self.seat = nodes, tables, seat
        self.found: dict[tuple[str, int | None], NodeValue] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.tables

    def __call__(self, name: str, layer: int | None = None) -> NodeValue:
        """Return an input of each example's own adapter, or one layer of it: (A, L, ..) -> (B, ..)."""
        if (name, layer) not in self.found:
            table = self.tables[name]
            table = table if layer is None else self.nodes.of(table, layer, 1)
            self.found[name, layer] = self.nodes.Gather(table, self.seat, axis=0)
        return self.found[name, layer]


@dataclass(frozen=True)
class Rows:
    """The rows of padded examples, U = R + T: those in front of the text (R), and its tokens."""

    text: NodeValue  # (B, T) whether a token is there
    seen: NodeValue  # (B, U) what attention may look at
    index: NodeValue  # (B|1, U) the row's number in its example, from which distances are counted
    position: NodeValue  # (B, U) the same moved by what the adapter moves text by
    slots: NodeValue | None  # (B, U, S) 1 where the row is the special token of that number
    front: NodeValue | None  # (B, R) 1 for rows that hold a prompt; None: no adapter has any
    ahead: NodeValue | None  # (1,) R


def graph_rows(nodes: Nodes, slot: NodeValue, mask: NodeValue, own: Seated) -> Rows:
    """Return the rows of a batch: (B, T), (B, T) -> rows."""
    text = nodes.Greater(mask, 0)
    index = nodes.Unsqueeze(nodes.range(nodes.size(slot, 1)), [0])
    position = nodes.Add(nodes.Unsqueeze(own("shift"), [1]), index)
    seen, front, ahead = text, None, None
    if "front" in own:
        front = own("front")
        ahead = nodes.size(front, 1)
        seen = nodes.Concat(nodes.Greater(front, 0.0), text, axis=1)
        none = zeros_in_front(nodes, front)
        prompt = nodes.Add(none, nodes.range(ahead))
        position = nodes.Concat(prompt, position, axis=1)
        length = nodes.cast(nodes.ReduceSum(front, [1]), "INT64")  # (B, 1)
        index = nodes.Concat(prompt, nodes.Add(length, index), axis=1)
        slot = nodes.Concat(nodes.Sub(none, 1), slot, axis=1)
    slots = None
    if "delta" in own:
        numbers = nodes.range(nodes.size(own("delta", 0), 1))
        slots = nodes.cast(nodes.Equal(nodes.Unsqueeze(slot, [-1]), numbers), "FLOAT")
    return Rows(text, seen, index, position, slots, front, ahead)


def zeros_in_front(nodes: Nodes, front: NodeValue) -> NodeValue:
    """Return a zero for each row in front: (B, R) -> (B, R) whole numbers."""
    return nodes.Mul(nodes.cast(front, "INT64"), 0)


def prompted(
    nodes: Nodes, layer: int, hidden: NodeValue, memory: NodeValue | None, rows: Rows, own: Seated
) -> tuple[NodeValue, NodeValue | None]:
    """Write the rows in front at a layer's input; return the input, and what the cell remembers.

    (B, U, D), (B, R, D) -> (B, U, D), (B, R, D).
    """
    if "entered" not in own or ("cell" not in own and memory is not None):
        return hidden, memory
    left, text = nodes.until(hidden, rows.ahead), nodes.after(hidden, rows.ahead)
    if memory is None:
        entered = nodes.Where(nodes.on(own("enters"), (1, 2)), own("entered"), left)
        kept = entered
    else:
        entered = cell(nodes, left, memory, own)
        kept = nodes.Where(_kind(nodes, own, KEEPS_FIRST), memory, entered)
    return nodes.Concat(entered, text, axis=1), kept


def cell(nodes: Nodes, left: NodeValue, memory: NodeValue, own: Seated) -> NodeValue:
    """Return what a cell makes of the prompt, and of other rows in front what they are.

    (B, R, D), (B, R, D) -> (B, R, D).
    """
    mixed = nodes.Add(nodes.MatMul(memory, own("remember")), nodes.MatMul(left, own("forget")))
    if "cell_bias" in own:
        mixed = nodes.Add(mixed, nodes.Unsqueeze(own("cell_bias"), [1]))
    keep = nodes.Sigmoid(mixed)
    convex = nodes.Add(nodes.Mul(keep, memory), nodes.Mul(nodes.Sub(1.0, keep), left))
    mixed = nodes.Where(_kind(nodes, own, IS_TANH), nodes.Tanh(mixed), mixed)
    mixed = nodes.Where(_kind(nodes, own, IS_GATE), convex, mixed)
    if "cell_norm" in own:
        weight, bias = (nodes.Unsqueeze(nodes.of(own("cell_norm"), i, 1), [1]) for i in range(2))
        apart = nodes.Sub(mixed, nodes.ReduceMean(mixed, [-1]))
        spread = nodes.Sqrt(nodes.Add(nodes.ReduceMean(nodes.Mul(apart, apart), [-1]), 1e-5))
        normed = nodes.Add(nodes.Mul(nodes.Div(apart, spread), weight), bias)
        mixed = nodes.Where(_kind(nodes, own, IS_NORMED), normed, mixed)
    return nodes.Where(_kind(nodes, own, IS_CELL), mixed, left)


def prefix_of(
    nodes: Nodes, layer: int, hidden: NodeValue, rows: Rows, own: Seated
) -> tuple[NodeValue, NodeValue, NodeValue] | None:
    """Return a layer's keys, values and whether they are seen, gated by its input; None: there are none.

    (B, U, D) -> (B, P, H, K), (B, P, H, K), (B, P).
    """
    if "prefix" not in own:
        return None
    kv = own("prefix", layer)  # (B, 2, P, H, K)
    if "gate" in own:
        text = hidden if rows.ahead is None else nodes.after(hidden, rows.ahead)
        gates_mean, gates = nodes.on(own("gate_mean"), [1]), nodes.on(own("gates"), [1])
        read = nodes.Where(gates_mean, mean_of(nodes, text, rows), nodes.of(text, 0, 1))
        logit = nodes.Squeeze(nodes.MatMul(nodes.Unsqueeze(read, [1]), own("gate", layer)), [1])
        gate = nodes.Sigmoid(nodes.Add(logit, own("gate_bias", layer)))
        scale = nodes.Unsqueeze(nodes.Add(own("scale_less_one", layer), 1.0), [1])
        weight = nodes.Mul(nodes.Where(gates, gate, 1.0), scale)  # (B, P)
        kv = nodes.Mul(kv, nodes.Unsqueeze(weight, [1, 3, 4]))
    return nodes.of(kv, 0, 1), nodes.of(kv, 1, 1), nodes.Greater(own("prefix_seen", layer), 0.0)


def rescored(nodes: Nodes, scores: NodeValue, own: Seated) -> NodeValue:
    """Return the prefix's logits, lessened by themselves where SPT's gate is on: (B, H, U, P)."""
    if "selects" not in own:
        return scores
    selects, tau = (nodes.Unsqueeze(own(name), [1, 2, 3]) for name in ("selects", "tau"))
    lost = nodes.Softplus(nodes.Neg(nodes.Mul(tau, scores)))  # less log sigmoid
    return nodes.Sub(scores, nodes.Mul(selects, lost))


def edited(nodes: Nodes, site: str, layer: int | None, x: NodeValue, y: NodeValue, own: Seated) -> NodeValue:
    """Add what the adapters add to the output of one map: (B, U, I), (B, U, O) -> (B, U, O).

    layer: None for a site outside the layers.
    """
    if f"shrink.{site}" in own:
        thin = nodes.MatMul(x, own(f"shrink.{site}", layer))
        y = nodes.Add(y, nodes.MatMul(thin, own(f"grow.{site}", layer)))
    if f"bias.{site}" in own:
        y = nodes.Add(y, nodes.Unsqueeze(own(f"bias.{site}", layer), [1]))
    return y


def mean_of(nodes: Nodes, text: NodeValue, rows: Rows) -> NodeValue:
    """Return the mean of the tokens: (B, T, D) -> (B, D)."""
    weight = nodes.Unsqueeze(nodes.cast(rows.text, "FLOAT"), [-1])
    total = nodes.ReduceSum(nodes.Mul(text, weight), [1], keepdims=0)
    return nodes.Div(total, nodes.ReduceSum(weight, [1], keepdims=0))


def _kind(nodes: Nodes, own: Seated, place: int) -> NodeValue:
    return nodes.on(nodes.of(own("cell"), place, 1), [1, 2])
