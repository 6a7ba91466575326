"""Base: an encoder with its tokenizer, because adapters, predictors and banks need both together."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from softcue.encoder.linear import multiplies_in_bfloat16
from softcue.encoder.load import Backbone, load_encoder
from softcue.errors import BackboneError, RequestError
from softcue.text.tokens import Text


@dataclass(frozen=True)
class Base:
    """Holds a frozen encoder and its tokenizer."""

    backbone: Backbone
    text: Text

    @cached_property
    def fingerprint(self) -> str:
        """A hash over the encoder's tensors and its tokenizer; an adapter works only with this one."""
        return hashlib.sha256(f"{self.backbone.fingerprint} {self.text.digest}".encode()).hexdigest()

    @property
    def precision(self) -> str:
        """Name of the type of the encoder's weights: "float32" or "bfloat16"."""
        return str(next(self.backbone.encoder.parameters()).dtype).removeprefix("torch.")

    def __deepcopy__(self, memo: dict[int, Any]) -> "Base":
        """Return the same object: it never changes, so copies of its owners can share it."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments of open_base, not the weights; loading opens the encoder again by name."""
        device = next(self.backbone.encoder.parameters()).device
        return open_base, (self.backbone.name, self.precision, str(device))


def open_base(name: str, precision: str = "auto", device: str = "cpu") -> Base:
    """Load a frozen encoder with its tokenizer.

    name: a folder, a Hugging Face id or an alias (`softcue backbones` lists them).
    precision: float32, bfloat16, or auto: bfloat16 if the device multiplies matrices in it, else float32.

    Raises BackboneError if the encoder or its tokenizer cannot be loaded, and RequestError for an unknown
    precision or an unavailable device.
    """
    check_device(device)
    backbone = load_encoder(name, dtype_of(precision, device), device)
    text, rows = Text.load(backbone.folder, backbone.encoder.spec.positions), backbone.encoder.spec.vocabulary
    if text.highest >= rows:
        raise BackboneError(
            f"backbone {name!r}: its tokenizer gives ids up to {text.highest:,}, but its encoder has "
            f"{rows:,} word vectors "
            f"(0 to {rows - 1:,}); they belong to different models: download both again"
        )
    return Base(backbone, text)


def dtype_of(precision: str, device: str = "cpu") -> torch.dtype:
    """Return the torch dtype for a precision's name.

    "auto" is bfloat16 if the device multiplies matrices in it, else float32.
    """
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if precision == "auto":
        return best_dtype(device)
    if precision not in known:
        raise RequestError(f"precision {precision!r} is unknown; expected one of auto, {', '.join(known)}")
    return known[precision]


def check_device(device: str) -> None:
    """Raise RequestError for a device that torch does not have or cannot use."""
    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RequestError(
            f"device {device!r} is not available ({reason}); expected cpu, or cuda if torch can use a GPU"
        ) from None


def best_dtype(device: str) -> torch.dtype:
    """Return bfloat16 if the device multiplies matrices in it, else float32."""
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if multiplies_in_bfloat16() else torch.float32
