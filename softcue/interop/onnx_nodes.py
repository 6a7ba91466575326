"""Writing the nodes of an ONNX graph, one call each, and the weights that they read."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

OPSET = 20
IR_VERSION = 10  # the oldest that has this opset: older runtimes read the file too
NodeValue = Any  # an onnx_ir.Value: what a node gives, an input or a weight
Axis = int | str  # a size, or the name of one that is known when the graph runs


class Nodes:
    """Writes a graph: nodes.MatMul(x, y) adds that node and returns what it gives.

    Keywords are a node's attributes. Inputs are values of the graph, or numbers and lists of whole numbers,
    which become constants.
    """

    def __init__(self) -> None:
        import onnx_ir

        self.ir = onnx_ir
        self.tape = onnx_ir.tape.Tape()
        self.inputs: list[NodeValue] = []
        self.kept: dict[Any, NodeValue] = {}  # weights and constants: one that is read twice is stored once

    def __getattr__(self, kind: str) -> Callable[..., NodeValue]:
        return lambda *inputs, **attributes: self.tape.op(kind, [self.value(x) for x in inputs], attributes)

    def input(self, name: str, dtype: torch.dtype, axes: Sequence[Axis]) -> NodeValue:
        """Return a new input of the graph."""
        kind = self.ir.DataType[{torch.float32: "FLOAT", torch.int64: "INT64"}[dtype]]
        self.inputs.append(self.ir.val(name, kind, list(axes)))
        return self.inputs[-1]

    def value(self, x: Any) -> NodeValue:
        """Return a constant for a number or a list of whole numbers; anything else as it is."""
        if isinstance(x, bool | int | float | list):
            floats = isinstance(x, float)
            made = torch.tensor(x, dtype=torch.float32 if floats else torch.int64)
            return self._stored(("constant", floats, str(x)), f"constant_{len(self.kept)}", lambda: made)
        return x

    def weight(self, weight: Tensor, transposed: bool = False) -> NodeValue:
        """Return a tensor of the encoder, in float32 or as whole numbers.

        (..) -> (..), or transposed (O, I) -> (I, O).
        """

        def lay() -> Tensor:
            laid = weight.detach().mT if transposed else weight.detach()
            return (laid.float() if laid.is_floating_point() else laid).contiguous()

        # The tensor is kept with its value, so that no other one can have the same id.
        return self._stored((id(weight), transposed), f"weight_{len(self.kept)}", lay, weight)

    def linear(self, module: nn.Linear, x: NodeValue) -> NodeValue:
        """Apply an affine map: (.., I) -> (.., O)."""
        made = self.MatMul(x, self.weight(module.weight, transposed=True))
        return made if module.bias is None else self.Add(made, self.weight(module.bias))

    def norm(self, module: nn.Module, x: NodeValue) -> NodeValue:
        """Apply a LayerNorm over the last axis, or the identity."""
        if isinstance(module, nn.Identity):
            return x
        assert isinstance(module, nn.LayerNorm)
        # onnxruntime 1.32 ends the process over a norm without a bias, so that one of zeros stands in
        bias = self.weight(torch.zeros_like(module.weight) if module.bias is None else module.bias)
        return self.LayerNormalization(x, self.weight(module.weight), bias, axis=-1, epsilon=module.eps)

    def activation(self, name: str, x: NodeValue) -> NodeValue:
        """Apply an activation of an encoder's by its name."""
        return ACTIVATION_NODES[name](self, x)

    def parts(self, x: NodeValue, count: int) -> Sequence[NodeValue]:
        """Cut the last axis into equal parts."""
        made: Sequence[NodeValue] = self.tape.op_multi_out(
            "Split", [x], {"axis": -1, "num_outputs": count}, num_outputs=count
        )
        return made

    def of(self, x: NodeValue, place: int, axis: int) -> NodeValue:
        """Return one place of an axis, which is gone then."""
        return self.Gather(x, place, axis=axis)

    def after(self, x: NodeValue, count: NodeValue) -> NodeValue:
        """Return axis 1 from a number of places on, which is known when the graph runs: (1,)."""
        return self.Slice(x, count, [2**31 - 1], [1])

    def until(self, x: NodeValue, count: NodeValue) -> NodeValue:
        """Return that many first places of axis 1."""
        return self.Slice(x, [0], count, [1])

    def size(self, x: NodeValue, axis: int) -> NodeValue:
        """Return the size of an axis: (1,)."""
        return self.Shape(x, start=axis, end=axis + 1)

    def range(self, size: NodeValue) -> NodeValue:
        """Return 0, 1, .. : (1,) -> (size,)."""
        return self.Range(0, self.Squeeze(size), 1)

    def on(self, switch: NodeValue, axes: Sequence[int]) -> NodeValue:
        """Return where a switch of each example is on, with axes of size 1 put in."""
        return self.Unsqueeze(self.Greater(switch, 0.0), list(axes))

    def cast(self, x: NodeValue, dtype: str) -> NodeValue:
        """Return the same values in another type, by ONNX's name of it."""
        return self.Cast(x, to=self.ir.DataType[dtype])

    def write(self, outputs: Mapping[str, tuple[NodeValue, Sequence[Axis]]], file: Path) -> None:
        """Write the graph with its weights in a file beside it.

        outputs: by name their values and axes.
        """
        ir = self.ir
        for name, (value, axes) in outputs.items():
            value.name, value.shape = name, ir.Shape(list(axes))
            value.dtype = ir.DataType.FLOAT
        graph = ir.Graph(
            self.inputs,
            [value for value, _ in outputs.values()],
            nodes=self.tape.nodes,
            initializers=self.tape.initializers,
            opset_imports={"": OPSET},
            name="softcue",
        )
        model = ir.Model(graph, ir_version=IR_VERSION, producer_name="softcue")
        ir.save(model, file, external_data=f"{file.name}.data")

    def _stored(self, key: Any, name: str, lay: Callable[[], Tensor], owner: Any = None) -> NodeValue:
        if key not in self.kept:
            value = self.tape.initializer(self.ir.tensor(lay().numpy(), name=name))
            self.kept[key] = value, owner
        return self.kept[key][0]


def _silu(nodes: Nodes, x: NodeValue) -> NodeValue:
    return nodes.Mul(x, nodes.Sigmoid(x))


def _gelu_tanh(nodes: Nodes, x: NodeValue) -> NodeValue:
    return nodes.Gelu(x, approximate="tanh")


# as softcue.encoder.linear has them
ACTIVATION_NODES: Mapping[str, Callable[[Nodes, NodeValue], NodeValue]] = {
    "gelu": lambda nodes, x: nodes.Gelu(x),
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": lambda nodes, x: nodes.Relu(x),
    "silu": _silu,
    "swish": _silu,
    "tanh": lambda nodes, x: nodes.Tanh(x),
}
