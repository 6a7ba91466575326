"""The protocol: what a tuning method (a Cue) may read and change while an encoder runs."""

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
    ff: int  # width of the feed-forward block's first linear layer, with the gate if the family has one
    pooler: bool  # whether the checkpoint has one
    embed_norm: int | None = None  # width of the norm in the embedding block; None: E

    @property
    def head(self) -> int:
        """Width per head (K)."""
        return self.hidden // self.heads


# the names of the frozen linear layers and norms that on_affine is called for
SITES = frozenset(("query", "key", "value", "out", "up", "down", "norm1", "norm2", "embed_norm", "pooler"))


@dataclass(frozen=True)
class Facts:
    """The facts about the encoder and the task from which a method may complete its config."""

    dims: Dims
    # roles of the special tokens of the task's examples, "cls" or "sep", in reading order
    slots: tuple[str, ...]
    # () -> (L, S): mean attention mass on each special token, measured on the task's own text
    attention: Callable[[], Tensor]
    doubled: bool = False  # whether the template puts two separators between two texts, as RoBERTa's does


class Prefix(NamedTuple):
    """Keys and values that every text row of an example attends to, in front of the example's rows."""

    key: Tensor  # (B, P, H, K)
    value: Tensor  # (B, P, H, K)
    rescore: Callable[[Tensor, Tensor], Tensor] | None = None
    # (logits (b, H, t, P) of text rows towards their prefix, examples (b,)) -> what to add to them, float32
    length: Tensor | None = None  # (B,) if examples have prefixes of different lengths; None: all have P

    @property
    def plain(self) -> bool:
        """Whether logits towards the prefix are plain products, for all of its tokens."""
        return self.rescore is None and self.length is None


# is called with what a cue computed: the name, the layer and the values
CueObserver = Callable[[str, int, Tensor], None]


@dataclass
class Context:
    """Holds what a cue needs during one forward pass."""

    batch: Batch  # the part of the batch that this cue serves
    memory: Any = None  # what a cue keeps from layer to layer
    losses: list[Tensor] = field(default_factory=list)  # (B,) penalties that a cue adds to the task's loss
    watch: CueObserver | None = None  # during inspection, called with what can be inspected; None otherwise


class Cue(nn.Module):
    """Base class of tuning methods.

    Axis 0 of every parameter is the seat axis: each seat has one adapter. Defining a subclass as
    `class Mine(Cue, method="mine", config=MineConfig)` registers the method.
    """

    registry: ClassVar[dict[str, type["Cue"]]] = {}
    method: ClassVar[str]
    Config: ClassVar[type]
    grade: ClassVar[str] = ""  # shown beside the name if the method is not an exact copy, as "reconstruction"
    # whether the method never changes the encoder's outputs: the head is then fitted to outputs computed once
    frozen_outputs: ClassVar[bool] = False
    reserve: int = 0  # number of rows in front of each example for the cue's own vectors
    shift: int = 0  # added to the positions of text rows, to make room for those rows

    def __init_subclass__(cls, method: str | None = None, config: type | None = None) -> None:
        super().__init_subclass__()
        if method is None or config is None:
            return
        known = Cue.registry.get(method)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise RequestError(
                f"method '{method}' is registered twice, by {known.__qualname__} and by {cls.__qualname__}; "
                "rename one of them"
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
        """Return the names of the settings that may differ between the adapters of one cue."""
        return tuple(f.name for f in fields(config) if f.metadata.get("per_seat"))

    @classmethod
    def settle(cls, config: Any, facts: Facts) -> Any:
        """Return the config with everything filled in that depends on the encoder and the task.

        It is called once, before training.
        """
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
        """Set the per-seat settings of a seat."""
        for name in self.per_seat_names(config):
            getattr(self, name)[seat] = float(getattr(config, name))

    @classmethod
    def units(cls, config: Any, sizes: Callable[[], Tensor]) -> dict[str, Tensor]:
        """Return the unit of an adapter's parameters, by the parameter's name.

        A parameter's initial values and learning rate are multiplied by its unit. A unit broadcasts to the
        parameter of one seat; a parameter that is left out has the unit 1.

        sizes: () -> (L, S), the root mean square of each special token's row at each layer's input.
        """
        return {}

    @classmethod
    def rate_share(cls, dims: Dims) -> float:
        """Return the factor on the preset's learning rate for an encoder of this size.

        A learning rate that the user gives is not changed.
        """
        return 1.0

    def rate_shares(self) -> dict[str, float]:
        """Return the factor on the job's learning rate, by name of parameter; others have the factor 1."""
        return {}

    def first_touched(self, seat: int) -> int:
        """Return the lowest layer whose input, prefix or linear layers this seat changes.

        Return 0 also if it changes word vectors or reserves rows, and the number of layers if it changes
        none. For a text that several adapters read, the layers below are computed once for all of them. The
        cue may not be called there, so `ctx.memory` is empty at its first call.
        """
        return 0

    def on_words(self, word: Tensor, ctx: Context) -> Tensor:
        """Return changed word vectors, before position, segment and norm: (N, E) -> (N, E)."""
        return word

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """Return the changed input of a layer, counted from 0: (N, D) -> (N, D)."""
        return hidden

    def prefix(self, layer: int, hidden: Tensor, ctx: Context) -> Prefix | None:
        """Return keys and values for a layer whose input is `hidden`: (N, D) -> Prefix or None."""
        return None

    def on_affine(self, layer: int, site: str, x: Tensor, y: Tensor, ctx: Context) -> Tensor:
        """Return the changed output of one frozen linear layer or norm: (M, I), (M, O) -> (M, O).

        site: one of SITES. embed_norm is called with layer 0, pooler with the last layer. Axis 0 of the
        pooler's tensors is B examples, not rows. x and y: the frozen layer's input and output.

        It is called only for the sites in `edited`. It must not write to ctx, and may change y in place only
        if no gradients are computed.
        """
        return y

    def edited(self, ctx: Context) -> frozenset[str]:
        """Return the sites at which on_affine is called in this forward pass.

        By default these are all sites if the method overrides on_affine, else none.
        """
        return frozenset() if type(self).on_affine is Cue.on_affine else SITES


class Silent(Cue):
    """A cue that changes nothing, for running the bare encoder."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
