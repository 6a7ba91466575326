"""Linear: an encoder's affine map, whose frozen bfloat16 weight is laid out once as the processor's kernels read it."""

from collections.abc import Callable
from functools import cache
from weakref import WeakKeyDictionary

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
FUSED = {"gelu": ("gelu", "none"), "gelu_new": ("gelu", "tanh"), "gelu_pytorch_tanh": ("gelu", "tanh"), "relu": ("relu", "")}


class Linear(nn.Linear):
    """nn.Linear, with the same numbers; frozen in bfloat16 on a CPU it is quicker, above all for few rows.

    torch gives oneDNN the weight as it lies and oneDNN lays it out anew at every product, which for the rows of one short
    text takes longer than the product. The layouts are kept beside the module, so that a copy or a checkpoint is without them.
    """

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
        """Whether the weight is such as can be laid out: frozen, bfloat16, on a CPU that multiplies in it."""
        same = x.dtype == self.weight.dtype == torch.bfloat16
        return same and not self.weight.requires_grad and x.device.type == "cpu" and x.dim() == 2 and len(x) > 0 and kernel_is_there()

    def packed(self, part: Part, transposed: bool) -> Tensor:
        """The weight of a part in oneDNN's layout, made when it is first asked for and again when the weight has changed."""
        made_of, layouts = _LAYOUTS.get(self, (None, {}))
        now = (self.weight.data_ptr(), self.weight._version)
        if made_of != now:
            layouts = {}
            _LAYOUTS[self] = now, layouts
        if (part, transposed) not in layouts:
            with torch.inference_mode(False), torch.no_grad():
                weight = self.weight[slice(*part)]
                layouts[part, transposed] = torch.ops.mkldnn._reorder_linear_weight(weight.mT.contiguous() if transposed else weight)
        return layouts[part, transposed]


_LAYOUTS: WeakKeyDictionary[Linear, tuple[tuple[int, int], Packed]] = WeakKeyDictionary()


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
    made: Tensor = torch.ops.mkldnn._linear_pointwise(longer(x), weight, bias, activation, [], algorithm)
    return made[: len(x)]


def product_plus(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(N, I), (N, O) -> (N, O): product and sum in one go."""
    made: Tensor = torch.ops.mkldnn._linear_pointwise.binary(longer(x), longer(residual), weight, bias, "add")
    return made[: len(x)]


def longer(x: Tensor) -> Tensor:
    """(N, W) -> (M, W), zeros at the end: M is N or one of 16 numbers between a power of two and the next.

    Every batch has another number of rows, and for each that oneDNN has not seen lately it makes its products anew, which took a
    sixth of the time of training on batches that do not come again.
    """
    more = -len(x) % max(1, 2 ** (len(x).bit_length() - 5))
    return F.pad(x, (0, 0, 0, more)) if more else x


@cache
def kernel_is_there() -> bool:
    """Whether this torch has the products of torch.compile's CPU code, which are not public, and this processor bfloat16 units."""
    operators = torch.ops.mkldnn
    try:
        return all((operators._linear_pointwise, operators._reorder_linear_weight, operators._is_mkldnn_bf16_supported()))
    except AttributeError:
        return False
