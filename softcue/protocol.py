"""The protocol: what a tuning method (a Cue) may read and write while an encoder runs, and the
tensor code that methods share.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from softcue.batch import Batch
from softcue.errors import RequestError


@dataclass(frozen=True)
class Dims:
    """The sizes of an encoder that a cue may depend on."""

    layers: int  # L
    hidden: int  # D
    heads: int  # H
    embed: int  # E, width of a word vector before the embedding block finishes
    ff: int  # width of the feed-forward's first product, gate included where the family has one
    pooler: bool  # whether the checkpoint has one
    embed_norm: int | None = None  # width of the norm in the embedding block; None: E

    @property
    def head(self) -> int:
        """Width per head (K)."""
        return self.hidden // self.heads


# of affine maps
SITES = frozenset(("query", "key", "value", "out", "up", "down", "norm1", "norm2", "embed_norm", "pooler"))


@dataclass(frozen=True)
class Facts:
    """What a config may be completed from: the encoder and the task that it is about to be used for."""

    dims: Dims
    # roles of the special tokens of the task's examples, "cls" or "sep", in reading order
    slots: tuple[str, ...]
    # () -> (L, S): mean attention mass on each special token, measured on the task's own text
    attention: Callable[[], Tensor]
    doubled: bool = False  # whether the template puts two separators between texts, as RoBERTa's does


class Prefix(NamedTuple):
    """Keys and values that every text row sees in front of its own example."""

    key: Tensor  # (B, P, H, K)
    value: Tensor  # (B, P, H, K)
    rescore: Callable[[Tensor, Tensor], Tensor] | None = None
    # logits (b, H, t, P) of the rows of examples (b,) towards their prefix -> what to add to them, float32
    length: Tensor | None = None  # (B,) where examples have prefixes of different length; None: all P

    @property
    def plain(self) -> bool:
        """Whether logits towards it are products and no more."""
        return self.rescore is None and self.length is None


# sees what a cue computed: its name, the layer, and the values
CueObserver = Callable[[str, int, Tensor], None]


@dataclass
class Context:
    """Lives for one forward."""

    batch: Batch  # the part of the batch that this cue serves
    memory: Any = None  # what a cue carries from layer to layer
    losses: list[Tensor] = field(default_factory=list)  # (B,) penalties that a cue adds to the task loss
    watch: CueObserver | None = None  # a method tells it what can be inspected, at no cost where it is None


class Cue(nn.Module):
    """A tuning method. Axis 0 of every parameter is the seat axis: one adapter per seat.

    A method subclasses this as `class Mine(Cue, method="mine", config=MineConfig)`; the class line registers
    it.
    """

    registry: ClassVar[dict[str, type["Cue"]]] = {}
    method: ClassVar[str]
    Config: ClassVar[type]
    grade: ClassVar[str] = ""  # what stands beside its name wherever it is no faithful copy
    # whether every output of the encoder stays as it is: the head is fitted to outputs computed once
    frozen_outputs: ClassVar[bool] = False
    reserve: int = 0  # rows that each example sets aside for the cue's own vectors
    shift: int = 0  # how far text positions move to make room

    def __init_subclass__(cls, method: str | None = None, config: type | None = None) -> None:
        super().__init_subclass__()
        if method is None or config is None:
            return
        known = Cue.registry.get(method)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise RequestError(
                f"method '{method}' is registered twice: by {known.__qualname__} and by {cls.__qualname__}; "
                "rename one"
            )
        cls.method, cls.Config = method, config
        Cue.registry[method] = cls

    def __init__(self, dims: Dims, config: Any, adapters: int = 1) -> None:
        super().__init__()
        self.config = config
        for name in self.per_seat_names(config):
            self.register_buffer(
                name, torch.full((adapters,), float(getattr(config, name))), persistent=False
            )

    @staticmethod
    def per_seat_names(config: Any) -> tuple[str, ...]:
        """Return the settings that adapters of one cue may differ in."""
        return tuple(f.name for f in fields(config) if f.metadata.get("per_seat"))

    @classmethod
    def settle(cls, config: Any, facts: Facts) -> Any:
        """Fill in what the config leaves to the task; called once, before training."""
        return config

    @classmethod
    def shape(cls, config: Any) -> Any:
        """Return the config with its per-seat settings at their defaults.

        Adapters of equal shape can share one cue.
        """
        defaults = {f.name: f.default for f in fields(config) if f.metadata.get("per_seat")}
        return replace(config, **defaults)

    @classmethod
    def count(cls, dims: Dims, config: Any) -> int:
        """Count the trainable parameters of one adapter, without the head, by the method's formula."""
        raise TypeError(f"{cls.__name__} must define count(dims, config): its parameter formula")

    def configure(self, seat: int, config: Any) -> None:
        """Set the per-seat settings of `seat`."""
        for name in self.per_seat_names(config):
            getattr(self, name)[seat] = float(getattr(config, name))

    @classmethod
    def units(cls, config: Any, sizes: Callable[[], Tensor]) -> dict[str, Tensor]:
        """Return what an adapter's numbers are measured in, by parameter.

        Initial numbers and rate are those of the method times this.

        sizes: () -> (L, S) root mean square of each special token's row at each layer's input. A unit
        broadcasts to one seat's numbers; a parameter that is left out has the unit 1.
        """
        return {}

    @classmethod
    def rate_share(cls, dims: Dims) -> float:
        """Return the part of the preset's rate that an encoder of this size wants.

        A rate that somebody gives is taken as it is.
        """
        return 1.0

    def rate_shares(self) -> dict[str, float]:
        """Return parameters, by name, that learn at a share of the job's rate, and the share."""
        return {}

    def first_touched(self, seat: int) -> int:
        """Return the lowest layer whose input, prefix or maps `seat` touches.

        0: the embedding's vectors, or rows that it reserves, too. The number of layers: none. Below it the
        cue may not be called, and `ctx.memory` is empty when it first is; one text of several adapters is
        computed once.
        """
        return 0

    def on_words(self, word: Tensor, ctx: Context) -> Tensor:
        """Edit word vectors, before position, segment and norm: (N, E) -> (N, E)."""
        return word

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """Edit the input of `layer`, counted from 0: (N, D) -> (N, D)."""
        return hidden

    def prefix(self, layer: int, hidden: Tensor, ctx: Context) -> Prefix | None:
        """Return keys and values for `layer`, whose input is hidden: (N, D) -> Prefix or None."""
        return None

    def on_affine(self, layer: int, site: str, x: Tensor, y: Tensor, ctx: Context) -> Tensor:
        """Edit the output of one affine map of the frozen encoder: (M, I), (M, O) -> (M, O).

        site: one of SITES; embed_norm is asked with layer 0, pooler with the last, and its axis 0 is B
        examples, not rows. No call is made where a method does not override this. Must not write to ctx; may
        change y in place where no gradient is asked.
        """
        return y

    def edited(self, ctx: Context) -> frozenset[str]:
        """Return the sites that on_affine changes in this forward pass; it is called at no other."""
        return frozenset() if type(self).on_affine is Cue.on_affine else SITES


class Silent(Cue):
    """Does nothing: the bare encoder."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
