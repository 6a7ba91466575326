"""Linear: an encoder's affine map, whose frozen weight is laid out once as the processor's kernels read it."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softcue.kernels.gelu import gelu

Part = tuple[int, int]  # outputs of a map, from and up to
Packed = dict[tuple[Part, bool], Tensor]  # (part, whether transposed) -> weight in oneDNN's own layout

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}
FEW = 128  # rows in float32 up to which laid-out weights are the quicker ones
FUSED = {"gelu": ("gelu", "none"), "gelu_new": ("gelu", "tanh"), "gelu_pytorch_tanh": ("gelu", "tanh"), "relu": ("relu", "")}


class Linear(nn.Linear):
    """nn.Linear, with the same numbers; frozen on a CPU it is quicker, above all for few rows.

    torch gives its libraries the weight as it lies and they lay it out anew at every product, which for the rows of one short
    text takes longer than the product. A copy or a checkpoint is without the layouts.
    """

    layouts: tuple[tuple[int, int], Packed] | None = None  # what the weight was, and how it was laid out then

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "layouts"}

    @property
    def whole(self) -> Part:
        """All outputs."""
        return 0, self.out_features

    def forward(self, x: Tensor) -> Tensor:
        """(N, I) -> (N, O)"""
        return self.part(x, *self.whole)

    def part(self, x: Tensor, first: int, end: int) -> Tensor:
        """(N, I) -> (N, end - first): the outputs from `first` up to `end`."""
        bias = None if self.bias is None else self.bias[first:end]
        if not self.packs(x):
            if x.device.type == "cpu" and (x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")):
                return F.linear(longer(x), self.weight[first:end], bias)[: len(x)]
            return F.linear(x, self.weight[first:end], bias)
        if torch.is_grad_enabled() and x.requires_grad:
            made: Tensor = _Frozen.apply(x, self, (first, end), bias)
            return made
        return product(x, self.packed((first, end), False), bias)

    def activated(self, x: Tensor, activation: str) -> Tensor:
        """(N, I) -> (N, O): the map and an activation of ACTIVATIONS, in one go where backward does not need what lies between."""
        if activation in FUSED and self.packs(x) and not (torch.is_grad_enabled() and x.requires_grad):
            return product(x, self.packed(self.whole, False), self.bias, *FUSED[activation])
        return ACTIVATIONS[activation](self(x))

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        """(N, I), (N, O) -> (N, O): the map and a sum, in one go where there is no way back."""
        if self.packs(x) and not torch.is_grad_enabled():
            return product_plus(x, residual, self.packed(self.whole, False), self.bias)
        return residual + self(x)

    def packs(self, x: Tensor) -> bool:
        """Whether the weight is such as can be laid out, frozen and on a CPU, and the product is quicker for it.

        That is in bfloat16 where the processor multiplies in it, and in float32 for few rows without a way back.
        """
        weight, dtype = self.weight, x.dtype
        if not (x.is_cpu and dtype == weight.dtype and x.dim() == 2 and x.shape[0] and operators_are_there()) or weight.requires_grad:
            return False
        if dtype == torch.bfloat16:
            return multiplies_in_bfloat16()
        return dtype == torch.float32 and x.shape[0] <= FEW and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))

    def frees(self, x: Tensor) -> bool:
        """Whether the way back to x may be written out, with `forth` and `back`: of a frozen map on a CPU, on rows of its own kind."""
        weight = self.weight
        if x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu"):
            return self.packs(x)
        return x.is_cpu and x.dtype == weight.dtype and not weight.requires_grad

    def forth(self, x: Tensor) -> Tensor:
        """What `forward` gives where there is a way back, also where autograd has been told that there is none."""
        return self(x) if x.dtype == torch.bfloat16 else F.linear(x, self.weight, self.bias)

    def back(self, grad: Tensor, beside: Tensor | None = None) -> Tensor:
        """(N, O) -> (N, I): the gradient of its input, and another one added in the same go."""
        if grad.dtype != torch.bfloat16 or not self.packs(grad):
            return grad @ self.weight if beside is None else torch.addmm(beside, grad, self.weight)
        weight = self.packed(self.whole, True)
        return product(grad, weight, None) if beside is None else product_plus(grad, beside, weight, None)

    def packed(self, part: Part, transposed: bool) -> Tensor:
        """The weight of a part in oneDNN's layout, made when it is first asked for and again when the weight has changed."""
        whole = self.weight
        now = whole.data_ptr(), 0 if whole.is_inference() else whole._version  # made in inference_mode it counts no changes
        if self.layouts is None or self.layouts[0] != now:
            self.layouts = now, {}
        layouts = self.layouts[1]
        if (part, transposed) not in layouts:
            with torch.inference_mode(False), torch.no_grad():
                weight = whole[slice(*part)]
                layouts[part, transposed] = torch.ops.mkldnn._reorder_linear_weight(weight.mT.contiguous() if transposed else weight)
        return layouts[part, transposed]


class _Frozen(torch.autograd.Function):
    """The product of a frozen map; backward to its input alone, by a layout of its own."""

    @staticmethod
    def forward(ctx, x: Tensor, linear: Linear, part: Part, bias: Tensor | None) -> Tensor:  # type: ignore[no-untyped-def, override]
        ctx.linear, ctx.part = linear, part
        return product(x, linear.packed(part, False), bias)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def, override]
        return product(grad, ctx.linear.packed(ctx.part, True), None), None, None, None


def product(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str = "none", algorithm: str = "") -> Tensor:
    """(N, I) -> (N, O) through a weight laid out by oneDNN, and an activation of FUSED."""
    rows = longer(x)
    made: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, activation, [], algorithm)
    return made if rows is x else made[: x.shape[0]]


def product_plus(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(N, I), (N, O) -> (N, O): product and sum in one go."""
    rows = longer(x)
    made: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, longer(residual), weight, bias, "add")
    return made if rows is x else made[: x.shape[0]]


def longer(x: Tensor) -> Tensor:
    """(N, W) -> (M, W), zeros at the end: M is N or one of 16 numbers between a power of two and the next.

    Every batch has another number of rows, and for each that oneDNN has not seen lately it makes its products anew, which took a
    sixth of the time of training on batches that do not come again.
    """
    count = x.shape[0]  # len(x) would take a microsecond, which counts for one short text
    more = -count % max(1, 2 ** (count.bit_length() - 5))
    return F.pad(x, (0, 0, 0, more)) if more else x


@cache
def operators_are_there() -> bool:
    """Whether this torch has the products of torch.compile's CPU code, which are not public."""
    try:
        return all((torch.ops.mkldnn._linear_pointwise, torch.ops.mkldnn._reorder_linear_weight))
    except AttributeError:
        return False


@cache
def multiplies_in_bfloat16() -> bool:
    """Whether this processor has units for products in bfloat16."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
