"""The protocol: what a tuning method (a Cue) may read and write while an encoder runs, and the tensor code that methods share."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softcue.batch import Batch, Runs, sent
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


SITES = frozenset(("query", "key", "value", "out", "up", "down", "norm1", "norm2", "embed_norm", "pooler"))  # of affine maps


@dataclass(frozen=True)
class Facts:
    """What a config may be completed from: the encoder and the task that it is about to be used for."""

    dims: Dims
    slots: tuple[str, ...]  # roles of the special tokens of the task's examples, "cls" or "sep", in reading order
    attention: Callable[[], Tensor]  # () -> (L, S): mean attention mass on each special token, measured on the task's own text
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


@dataclass
class Context:
    """Lives for one forward."""

    batch: Batch  # the part of the batch that this cue serves
    memory: Any = None  # what a cue carries from layer to layer
    losses: list[Tensor] = field(default_factory=list)  # (B,) penalties that a cue adds to the task loss


class Cue(nn.Module):
    """A tuning method. Axis 0 of every parameter is the seat axis: one adapter per seat.

    A method subclasses this as `class Mine(Cue, method="mine", config=MineConfig)`; the class line registers it.
    """

    registry: ClassVar[dict[str, type["Cue"]]] = {}
    method: ClassVar[str]
    Config: ClassVar[type]
    reserve: int = 0  # rows that each example sets aside for the cue's own vectors
    shift: int = 0  # how far text positions move to make room

    def __init_subclass__(cls, method: str | None = None, config: type | None = None) -> None:
        super().__init_subclass__()
        if method is None or config is None:
            return
        known = Cue.registry.get(method)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise RequestError(f"method '{method}' is registered twice: by {known.__qualname__} and by {cls.__qualname__}; rename one")
        cls.method, cls.Config = method, config
        Cue.registry[method] = cls

    def __init__(self, dims: Dims, config: Any, adapters: int = 1) -> None:
        super().__init__()
        self.config = config
        for name in self.per_seat_names(config):
            self.register_buffer(name, torch.full((adapters,), float(getattr(config, name))), persistent=False)

    @staticmethod
    def per_seat_names(config: Any) -> tuple[str, ...]:
        """The settings that adapters of one cue may differ in."""
        return tuple(f.name for f in fields(config) if f.metadata.get("per_seat"))

    @classmethod
    def settle(cls, config: Any, facts: Facts) -> Any:
        """Fill in what the config leaves to the task; called once, before training."""
        return config

    @classmethod
    def shape(cls, config: Any) -> Any:
        """The config with its per-seat settings at their defaults: adapters of equal shape can share one cue."""
        defaults = {f.name: f.default for f in fields(config) if f.metadata.get("per_seat")}
        return replace(config, **defaults)

    @classmethod
    def count(cls, dims: Dims, config: Any) -> int:
        """Trainable numbers of one adapter, head excluded, from the method's formula (docs/methods)."""
        raise TypeError(f"{cls.__name__} must define count(dims, config): its parameter formula")

    def configure(self, seat: int, config: Any) -> None:
        """Set the per-seat settings of `seat`."""
        for name in self.per_seat_names(config):
            getattr(self, name)[seat] = float(getattr(config, name))

    @classmethod
    def units(cls, config: Any, sizes: Callable[[], Tensor]) -> dict[str, Tensor]:
        """What an adapter's numbers are measured in, by parameter: initial numbers and rate are those of the method times this.

        sizes: () -> (L, S) root mean square of each special token's row at each layer's input. A unit broadcasts to one seat's
        numbers; a parameter that is left out has the unit 1.
        """
        return {}

    def rate_shares(self) -> dict[str, float]:
        """Parameters, by name, that learn at a share of the job's rate, and the share."""
        return {}

    def on_words(self, word: Tensor, ctx: Context) -> Tensor:
        """(N, E) -> (N, E): word vectors, before position, segment and norm."""
        return word

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """(N, D) -> (N, D): the input of `layer`, counted from 0."""
        return hidden

    def prefix(self, layer: int, hidden: Tensor, ctx: Context) -> Prefix | None:
        """Keys and values for `layer`, whose input is hidden (N, D)."""
        return None

    def on_affine(self, layer: int, site: str, x: Tensor, y: Tensor, ctx: Context) -> Tensor:
        """(M, I), (M, O) -> (M, O): the output of one affine map of the frozen encoder.

        site: one of SITES; embed_norm is asked with layer 0, pooler with the last, and its axis 0 is B examples, not rows.
        No call is made where a method does not override this. Must not write to ctx; may change y in place where no gradient is asked.
        """
        return y

    def edited(self, ctx: Context) -> frozenset[str]:
        """The sites that on_affine changes in this forward; it is called at no other."""
        return frozenset() if type(self).on_affine is Cue.on_affine else SITES


class Silent(Cue):
    """Does nothing: the bare encoder."""

    def __init__(self) -> None:
        nn.Module.__init__(self)


def unit_of(size: Tensor) -> Tensor:
    """What vectors that are added to rows of this root mean square are measured in: 1 for rows of 0.32 to 0.64.

    Rates were found on MiniLM, whose rows are all of that size. A power of two, so that a size measured on other texts seldom
    changes it, and what changes is exact.
    """
    return torch.exp2((size.clamp(min=1e-6) / USUAL_SIZE).log2().round())


USUAL_SIZE = 0.45  # of MiniLM's special tokens at the layers' inputs: .34 to .54 on CoLA


def add_rows(hidden: Tensor, row: Tensor, delta: Tensor) -> Tensor:
    """(N, D), (B, S), (B, S, D): adds delta at the rows; rows of -1 are left alone."""
    (rows,), (added,) = layered(delta.to(hidden.dtype).unsqueeze(1), row.unsqueeze(1))
    return hidden.index_add(0, rows, added)


def layered(delta: Tensor, row: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(B, L, S, D), (B, L or 1, S) -> (L or 1, B * S) rows and L times (B * S, D) what index_add adds to them; nothing for -1.

    For a cue that adds vectors in many layers: gathered once per forward, for a gather costs more than what it is for.
    """
    # A zero added to row 0 instead of a selection: no synchronisation; filled, not multiplied: row 0 is another's, and nan * 0 is nan.
    delta = delta.masked_fill((row < 0).unsqueeze(-1), 0.0)
    return row.clamp(min=0).transpose(0, 1).flatten(1), delta.transpose(0, 1).flatten(1, 2).unbind()


def set_rows(hidden: Tensor, row: Tensor, value: Tensor) -> Tensor:
    """(N, D), (B, R), (B, R, D): replaces the rows; rows of -1 are left alone."""
    count = len(hidden)
    longer = F.pad(hidden, (0, 0, 0, 1))  # by the row that -1 leads to: which are -1 only the device knows, and nobody waits for it
    return longer.index_copy_(0, row.flatten().remainder(count + 1), value.flatten(0, 1).to(hidden.dtype))[:count]


def read_rows(hidden: Tensor, row: Tensor) -> Tensor:
    """(N, D), (B, R) -> (B, R, D); zeros where the row is -1."""
    read = hidden.index_select(0, row.clamp(min=0).flatten()).view(*row.shape, -1)
    return read.masked_fill((row < 0).unsqueeze(-1), 0.0)


def of_layer(table: Tensor, layer: int, ctx: Context) -> Tensor:
    """(A, L, ..) -> (A, ..): taken apart once, at the first layer, for the way back of each table[:, layer] would be a whole table."""
    if layer == 0:
        ctx.memory = table.unbind(1)
    return cast(Tensor, ctx.memory[layer])


def copies(table: Tensor, batch: Batch, dtype: torch.dtype) -> Tensor:
    """(A, ..) -> (B, ..) in `dtype`: each example's copy of its seat's numbers, to be read only.

    Gradients are summed in the table's own precision.
    """
    if not torch.is_grad_enabled():
        return table.to(dtype).index_select(0, batch.seat)
    return cast(Tensor, _Copies.apply(table, batch.seat, batch.runs, dtype))


class _Copies(torch.autograd.Function):
    """The way back is a sum for each seat: torch's own would add up whole tables of zeros, example by example."""

    @staticmethod
    def forward(ctx, table: Tensor, seat: Tensor, runs: Runs, dtype: torch.dtype) -> Tensor:  # type: ignore[no-untyped-def, override]
        ctx.runs, ctx.like = runs, (table.shape, table.dtype)
        low = table.to(dtype)
        return low[runs[0][0]].expand(len(seat), *low.shape[1:]) if len(runs) == 1 else low.index_select(0, seat)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def, override]
        shape, dtype = ctx.like
        total = torch.zeros(shape, dtype=dtype, device=grad.device)
        for seat, first, end in ctx.runs:
            total[seat] += grad[first:end].sum(0, dtype=dtype)
        return total, None, None, None


def per_seat(x: Tensor, weight: Tensor, runs: Runs) -> Tensor:
    """(M, .., I), (A, I, O) -> (M, .., O): x[a:b] through weight[seat] for each run (seat, a, b), one product per adapter present."""
    if len(runs) > FEW and (weight[0].numel() <= THIN if x.dim() == 2 else _even(runs)):
        return _padded(x, weight, runs)
    products = [x[a:b] @ weight[seat].to(x.dtype) for seat, a, b in runs]
    return products[0] if len(products) == 1 else torch.cat(products)


FEW = 2  # runs that are quicker one by one
THIN = 2**14  # numbers of a matrix so small that starting its product costs more than the product: LoRA's, APT's gate


def _even(runs: Runs) -> bool:
    """Whether padding every run to the longest adds little."""
    longest = max(end - first for _, first, end in runs)
    return longest * len(runs) <= 1.25 * sum(end - first for _, first, end in runs)


def _padded(x: Tensor, weight: Tensor, runs: Runs) -> Tensor:
    """The same as one batched product, every run padded to the longest."""
    row, place, seat = _places(runs, x.device)
    as_they_are = row.numel() == len(x)  # all runs of one length: nothing is padded
    inside = (x if as_they_are else x.index_select(0, row.flatten())).reshape(len(runs), -1, x.shape[-1])  # (G, T * .., I)
    own = weight[seat] if isinstance(seat, slice) else weight.index_select(0, seat)
    products = inside @ own.to(x.dtype)
    products = products.view(row.numel(), *x.shape[1:-1], -1)
    return products if as_they_are else products.index_select(0, place)


@lru_cache(maxsize=8)  # a forward asks for the same few runs at every site of every layer
def _places(runs: Runs, device: torch.device) -> tuple[Tensor, Tensor, Tensor | slice]:
    """(G, T) the rows of each run, its last again where it is shorter; (M,) where each row stands; (G,) seats, a slice if they follow."""
    with torch.inference_mode(False):  # what is kept may be wanted by a training step later
        seat, first, end = (torch.tensor(column) for column in zip(*runs, strict=True))
        column = torch.arange(int((end - first).max()))
        row = torch.minimum(first[:, None] + column, end[:, None] - 1)
        place = (first[:, None] + column < end[:, None]).flatten().nonzero()[:, 0]
        follow = slice(runs[0][0], runs[0][0] + len(runs))
        one_by_one = seat.tolist() == list(range(follow.start, follow.stop))
        return sent(row, device), sent(place, device), follow if one_by_one else sent(seat, device)
