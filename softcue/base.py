"""Base: an encoder with its tokenizer, as every adapter, predictor and bank needs them together."""

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
    """A frozen encoder and the tokenizer it was trained with."""

    backbone: Backbone
    text: Text

    @cached_property
    def fingerprint(self) -> str:
        """What an adapter is bound to: a hash over the encoder's tensors and its tokenizer."""
        return hashlib.sha256(f"{self.backbone.fingerprint} {self.text.digest}".encode()).hexdigest()

    @property
    def precision(self) -> str:
        """Name of the type of the encoder's weights: "float32" or "bfloat16"."""
        return str(next(self.backbone.encoder.parameters()).dtype).removeprefix("torch.")

    def __deepcopy__(self, memo: dict[int, Any]) -> "Base":
        """Return itself: it is frozen, and copies of what holds it share it."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how a pickle opens it again: by name, as it was opened, without its weights."""
        device = next(self.backbone.encoder.parameters()).device
        return open_base, (self.backbone.name, self.precision, str(device))


def open_base(name: str, precision: str = "auto", device: str = "cpu") -> Base:
    """Load a folder, a Hugging Face id or an alias.

    precision: float32, bfloat16, or auto (see best_dtype).

    Raises BackboneError, and RequestError for a precision or a device that is not to be had.
    """
    check_device(device)
    backbone = load_encoder(name, dtype_of(precision, device), device)
    text, rows = Text.load(backbone.folder, backbone.encoder.spec.positions), backbone.encoder.spec.vocabulary
    if text.highest >= rows:
        raise BackboneError(
            f"backbone {name!r}: its tokenizer gives ids up to {text.highest:,}, and its encoder has "
            f"{rows:,} word vectors "
            f"(0 to {rows - 1:,}); the two are not of one model: fetch them again"
        )
    return Base(backbone, text)


def dtype_of(precision: str, device: str = "cpu") -> torch.dtype:
    """Return the torch type of a precision's name.

    "auto" is bfloat16 where the processor multiplies matrices in it.
    """
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if precision == "auto":
        return best_dtype(device)
    if precision not in known:
        raise RequestError(f"precision {precision!r} is unknown; expected one of auto, {', '.join(known)}")
    return known[precision]


def check_device(device: str) -> None:
    """Refuse a device that torch does not have, or cannot use. Raises RequestError."""
    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RequestError(
            f"device {device!r} is not to be had ({reason}); expected cpu, or cuda where torch has one"
        ) from None


def best_dtype(device: str) -> torch.dtype:
    """Return bfloat16 where the device has units for it, else float32."""
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if multiplies_in_bfloat16() else torch.float32
