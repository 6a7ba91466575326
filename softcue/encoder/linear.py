"""Linear: an encoder's affine map, which frozen on a CPU is quicker than torch's: laid out
once, or by a kernel as it is multiplied.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softcue.kernels.gelu import gelu, gelu_and_slope
from softcue.kernels.matmul import fits_matmul, lay_out, matmul, matmul_back, matmul_gelu

OutputRange = tuple[int, int]  # outputs of a map, from and up to
# (part, whether transposed) -> weight in the layout of oneDNN, or of the kernel in float32
Packed = dict[tuple[OutputRange, bool], Tensor]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}
FEW_ROWS = 128  # rows in float32 up to which weights are laid out beforehand
FUSED = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}


class Linear(nn.Linear):
    """nn.Linear, with the same weights; frozen on a CPU it is quicker, above all for few rows.

    torch gives its libraries the weight as it lies and they lay it out anew at every product, which for the
    rows of one short text takes longer than the product. In bfloat16 that is done once. In float32 a kernel
    does it as it multiplies, and once where few rows ask. A copy or a checkpoint is without the layouts.
    """

    layouts: tuple[tuple[int, int], Packed] | None = None  # what the weight was, and how it was laid out then

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "layouts"}

    @property
    def learns(self) -> bool:
        """Whether any of its parameters do; it is frozen where none does."""
        return self.weight.requires_grad or (self.bias is not None and self.bias.requires_grad)

    @property
    def whole(self) -> OutputRange:
        """All outputs."""
        return 0, self.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Apply the map: (N, I) -> (N, O)."""
        return self.part(x, *self.whole)

    def part(self, x: Tensor, first: int, end: int) -> Tensor:
        """Compute the outputs from `first` up to `end`: (N, I) -> (N, end - first)."""
        bias = None if self.bias is None else self.bias[first:end]
        if not self.quick(x):
            if x.device.type == "cpu" and (x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")):
                return F.linear(longer(x), self.weight[first:end], bias)[: len(x)]
            return F.linear(x, self.weight[first:end], bias)
        if torch.is_grad_enabled() and x.requires_grad:
            made: Tensor = _Frozen.apply(x, self, (first, end), bias)
            return made
        return self.product(x, (first, end), bias)

    def activated(self, x: Tensor, activation: str) -> Tensor:
        """Apply the map and an activation of ACTIVATIONS: (N, I) -> (N, O).

        It is one step where the backward pass does not need what lies between.
        """
        if activation in FUSED and self.packs(x) and not (torch.is_grad_enabled() and x.requires_grad):
            return product(x, self.packed(self.whole, False), self.bias, None, *FUSED[activation])
        if activation == "gelu" and not torch.is_grad_enabled() and self.multiplies(x):
            return matmul_gelu(x, self.weight, self.bias, None, self.laid(x, self.whole))
        return ACTIVATIONS[activation](self(x))

    def with_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the map, and return GELU and its slope: (N, I) -> (N, O), (N, O).

        The slope is for the backward pass. Rows are such as the kernels take.
        """
        if self.multiplies(x):
            slope = x.new_empty(x.shape[0], self.out_features)
            return matmul_gelu(x, self.weight, self.bias, slope, self.laid(x, self.whole)), slope
        return gelu_and_slope(self(x))

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        """Apply the map and add: (N, I), (N, O) -> (N, O).

        It is one step where there is no backward pass.
        """
        if self.quick(x) and not torch.is_grad_enabled():
            return self.product(x, self.whole, self.bias, residual)
        return residual + self(x)

    def quick(self, x: Tensor) -> bool:
        """Say whether `product` takes rows.

        The map is frozen, and there is a quicker way than torch's own.
        (N, I) -> bool.
        """
        return self.packs(x) if x.dtype == torch.bfloat16 else self.multiplies(x)

    def packs(self, x: Tensor) -> bool:
        """Say whether it is frozen in bfloat16 and the weight can be laid out.

        The processor must multiply in bfloat16.
        (N, I) -> bool.
        """
        if (
            not (x.is_cpu and x.dtype == self.weight.dtype == torch.bfloat16 and x.dim() == 2 and x.shape[0])
            or self.learns
        ):
            return False
        return operators_are_there() and multiplies_in_bfloat16()

    def multiplies(self, x: Tensor) -> bool:
        """Say whether it is frozen in float32 on a CPU, and there is a kernel for it.

        (N, I) -> bool.
        """
        return fits_matmul(x, self.weight) and not self.learns and not torch.is_autocast_enabled("cpu")

    def frees(self, x: Tensor) -> bool:
        """Say whether the backward pass to x may be written out, with `back`.

        It may for a frozen map on a CPU, on rows of its own kind.
        (N, I) -> bool.
        """
        if x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu"):
            return self.packs(x)
        return x.is_cpu and x.dtype == self.weight.dtype and not self.learns

    def product(
        self, x: Tensor, part: OutputRange, bias: Tensor | None, beside: Tensor | None = None
    ) -> Tensor:
        """Multiply rows for which it is `quick`, and add in the same step: (N, I) -> (N, end - first)."""
        if x.dtype == torch.bfloat16:
            return product(x, self.packed(part, False), bias, beside)
        return matmul(x, self.cut(part), bias, beside, self.laid(x, part))

    def cut(self, part: OutputRange) -> Tensor:
        """Return the weight of a part."""
        return self.weight if part == self.whole else self.weight[slice(*part)]

    def laid(self, x: Tensor, part: OutputRange) -> Tensor | None:
        """Return the weight of a part as the kernel reads it, for few rows.

        None: it is laid out as it is multiplied.
        (N, I) -> (..), the laid-out weight.
        """
        return self.packed(part, False) if x.shape[0] <= FEW_ROWS else None

    def back(
        self,
        grad: Tensor,
        beside: Tensor | None = None,
        factor: Tensor | None = None,
        part: OutputRange | None = None,
    ) -> Tensor:
        """Return the gradient of the input: (N, O) -> (N, I).

        Another gradient may be added, and all multiplied by a factor. Of a part: by its outputs alone.
        """
        part = part or self.whole
        if self.multiplies(grad):
            return matmul_back(grad, self.cut(part), beside, factor)
        if self.packs(grad):
            made = product(grad, self.packed(part, True), None, beside)
        else:
            weight = self.cut(part)
            made = grad @ weight if beside is None else torch.addmm(beside, grad, weight)
        return made if factor is None else made.mul_(factor)

    def packed(self, part: OutputRange, transposed: bool) -> Tensor:
        """Return the weight of a part laid out.

        It is laid out when it is first asked for, and again when the weight has changed.
        """
        whole = self.weight
        # made in inference_mode it counts no changes
        now = whole.data_ptr(), 0 if whole.is_inference() else whole._version
        if self.layouts is None or self.layouts[0] != now:
            self.layouts = now, {}
        layouts = self.layouts[1]
        if (part, transposed) not in layouts:
            with torch.inference_mode(False), torch.no_grad():
                weight = whole[slice(*part)].mT.contiguous() if transposed else whole[slice(*part)]
                lay = lay_out if weight.dtype == torch.float32 else torch.ops.mkldnn._reorder_linear_weight
                layouts[part, transposed] = lay(weight)
        return layouts[part, transposed]


class _Frozen(torch.autograd.Function):
    """The product of a frozen map; backward to its input alone."""

    @staticmethod
    def forward(ctx, x: Tensor, linear: Linear, part: OutputRange, bias: Tensor | None) -> Tensor:  # type: ignore[no-untyped-def, override]
        ctx.linear, ctx.part = linear, part
        return linear.product(x, part, bias)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def, override]
        return ctx.linear.back(grad, part=ctx.part), None, None, None


def product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    beside: Tensor | None = None,
    activation: str = "none",
    algorithm: str = "",
) -> Tensor:
    """Multiply by a weight laid out by oneDNN: (N, I), (N, O) -> (N, O).

    A sum or an activation of FUSED is part of the same step.
    """
    rows = longer(x)
    if beside is None:
        made: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, activation, [], algorithm)
    else:
        made = torch.ops.mkldnn._linear_pointwise.binary(rows, longer(beside), weight, bias, "add")
    return made if rows is x else made[: x.shape[0]]


def longer(x: Tensor) -> Tensor:
    """Add rows of zeros: (N, W) -> (M, W).

    M is N or one of 16 values between a power of two and the next.

    Every batch has another number of rows, and for each that oneDNN has not seen lately it makes its products
    anew, which took a sixth of the time of training on batches that do not come again.
    """
    count = x.shape[0]  # len(x) would take a microsecond, which counts for one short text
    more = -count % max(1, 2 ** (count.bit_length() - 5))
    return F.pad(x, (0, 0, 0, more)) if more else x


@cache
def operators_are_there() -> bool:
    """Say whether this torch has the products of torch.compile's CPU code, which are not public."""
    try:
        return all((torch.ops.mkldnn._linear_pointwise, torch.ops.mkldnn._reorder_linear_weight))
    except AttributeError:
        return False


@cache
def multiplies_in_bfloat16() -> bool:
    """Say whether this processor has units for products in bfloat16."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
