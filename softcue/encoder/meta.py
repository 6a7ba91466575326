"""Modules built on the meta device: their shapes, without memory and without drawing weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DRAWS = (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, Tensor.normal_, Tensor.uniform_)
SCALES = (Tensor.mul, Tensor.__mul__)  # by a number


class _Undrawn(TorchFunctionMode):
    """Leaves tensors as they are where they would be filled by chance, or those values be scaled."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in DRAWS or (func in SCALES and isinstance(args[1], float)):
            return args[0] if args else (kwargs or {})["tensor"]
        if func is Tensor.mul and type(args[1]) is float:  # changes no shape
            return args[0]
        if func is torch.eye and len(args) == 1:
            func, args = torch.empty, (args[0], args[0])
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


@contextmanager
def on_meta() -> Iterator[None]:
    """Build what follows on the meta device.

    Nothing is drawn: to draw what is not there, torch imports its compiler, a second's work and more.
    """
    with torch.device("meta"), _Undrawn():
        yield
