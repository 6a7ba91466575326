"""The packed encoder that every family is built from: embedding, layers, and the loop that asks the cue."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softcue.attention.attend import Bias, attend, attend_once
from softcue.attention.layout import Layout, Watch
from softcue.batch import Batch, Reads
from softcue.encoder.frozen import Half, finish, project
from softcue.encoder.linear import ACTIVATIONS, FUSED, Linear, longer
from softcue.errors import BatchError
from softcue.kernels.dropout import dropout, keep
from softcue.kernels.norm import add_norm, fits
from softcue.protocol import Context, Cue, Dims, Prefix

INPUTS = frozenset(("query", "key", "value"))  # maps before a layer's attention
OUTPUTS = frozenset(("out", "up", "down", "norm1", "norm2"))  # and after it, in all families but for norm1, which pre-norm ones have before


@dataclass(frozen=True)
class Edit:
    """A cue's on_affine bound to a layer and a context, for the sites that the cue changes."""

    cue: Cue
    layer: int
    ctx: Context
    sites: frozenset[str]

    def __call__(self, site: str, x: Tensor, y: Tensor) -> Tensor:
        """(M, I), (M, O) -> (M, O)"""
        return self.cue.on_affine(self.layer, site, x, y, self.ctx) if site in self.sites else y


def edits(cue: Cue, layer: int, ctx: Context) -> Edit | None:
    """What the cue does to the affine maps of one layer, or None where it leaves them alone."""
    sites = cue.edited(ctx)
    return Edit(cue, layer, ctx, sites) if sites else None


def among(edit: Edit | None, sites: frozenset[str]) -> Edit | None:
    """The same, or None where it leaves these sites alone."""
    return None if edit is None or edit.sites.isdisjoint(sites) else edit


@dataclass(frozen=True)
class Spec:
    """An encoder's sizes and constants, whatever its family calls them."""

    vocabulary: int
    layers: int
    hidden: int
    heads: int
    ff: int
    embed: int  # width of word vectors
    positions: int  # longest example, reserved rows and shift included
    offset: int = 0  # id of the first absolute position (RoBERTa: pad + 1)
    absolute: bool = True  # whether there is a table of absolute positions
    segments: int = 2  # 0: the family has no segment vectors
    activation: str = "gelu"
    epsilon: float = 1e-12
    dropout: float = 0.1  # of hidden states
    attention_dropout: float = 0.1  # of attention probabilities
    pooler: bool = True  # whether the checkpoint has one
    norm_last: bool = False  # the embedding's projection comes before its norm (DeBERTa), not after (ALBERT, ELECTRA)

    @property
    def dims(self) -> Dims:
        """What a cue may know."""
        embed_norm = self.hidden if self.norm_last else self.embed
        return Dims(self.layers, self.hidden, self.heads, self.embed, self.ff, self.pooler, embed_norm)


class Embed(nn.Module):
    """Token ids to the first layer's input, in two steps, so that a cue can write word vectors in between."""

    def __init__(self, spec: Spec, project: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.words = nn.Embedding(spec.vocabulary, spec.embed)
        self.position = nn.Embedding(spec.positions + spec.offset, spec.embed) if spec.absolute else None
        self.segment = nn.Embedding(spec.segments, spec.embed) if spec.segments else None
        self.norm = nn.LayerNorm(spec.embed, eps=spec.epsilon)
        self.project = Linear(spec.embed, spec.hidden) if project else None

    def word(self, token: Tensor) -> Tensor:
        """(N,) -> (N, E)"""
        return F.embedding(token, self.words.weight, sparse=self.words.weight.requires_grad)  # few rows of a large table have a gradient

    def place(self, word: Tensor, batch: Batch) -> Tensor:
        """(N, E) -> (N, E): adds position and segment vectors where the family has them."""
        if self.position is not None:
            word = word + self.position(batch.position + self.spec.offset if self.spec.offset else batch.position)
        if self.segment is not None:
            word = word + self.segment(batch.segment.clamp(max=self.spec.segments - 1))
        return word

    def finish(self, word: Tensor, batch: Batch, edit: Edit | None) -> Tensor:
        """(N, E) -> (N, D): position, segment, norm, dropout, and the projection where the family has one."""
        normed = affine(self.norm, "embed_norm", self.place(word, batch), edit)
        hidden = dropout(normed, self.spec.dropout, self.training)
        return hidden if self.project is None else self.project(hidden)


class Halves(nn.Module, ABC):
    """A Transformer layer as attention among rows, and what follows for each row by itself."""

    @abstractmethod
    def mix(
        self, hidden: Tensor, layout: Layout, prefix: Prefix | None, shared: Any, edit: Edit | None, kernel: str
    ) -> tuple[Tensor, Tensor]:
        """(N, D) -> (N, D), (N, D): what attention makes of the rows, and the rows again for what follows."""

    @abstractmethod
    def finish(self, hidden: Tensor, mixed: Tensor, edit: Edit | None) -> Tensor:
        """(M, D), (M, D) -> (M, D): what follows attention, each row by itself."""

    def forward(self, hidden: Tensor, layout: Layout, prefix: Prefix | None, shared: Any, edit: Edit | None, kernel: str) -> Tensor:
        """(N, D) -> (N, D)"""
        mixed, hidden = self.mix(hidden, layout, prefix, shared, edit, kernel)
        return self.finish(hidden, mixed, edit)

    def reads(self, edit: Edit | None) -> bool:
        """Whether `read` may stand in for `forward`: not where a family's own does more, or a cue edits what follows attention."""
        return type(self).forward is Halves.forward and among(edit, OUTPUTS) is None

    def read(
        self, hidden: Tensor, row: Tensor, reads: Reads, layout: Layout, prefix: Prefix | None, shared: Any, edit: Edit | None, kernel: str
    ) -> Tensor:
        """(N, D), (M,) -> (M, D): forward at the rows that are read, where nobody reads the others."""
        mixed, hidden = self.mix(hidden, layout, prefix, shared, edit, kernel)
        return self.finish(hidden.index_select(0, row), mixed.index_select(0, row), None)


class Layer(Halves):
    """A post-norm Transformer layer (Devlin et al., 2019)."""

    drops: tuple[str, ...] = ("norm1", "norm2")  # the halves whose output goes through dropout, by the norm that ends them

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.qkv = Linear(spec.hidden, 3 * spec.hidden)
        self.out = Linear(spec.hidden, spec.hidden)
        self.norm1 = nn.LayerNorm(spec.hidden, eps=spec.epsilon)
        self.up = Linear(spec.hidden, spec.ff)
        self.down = Linear(spec.ff, spec.hidden)
        self.norm2 = nn.LayerNorm(spec.hidden, eps=spec.epsilon)

    def bias(self, shared: Any) -> Bias | None:
        """What this layer adds to the logits between text rows, given what Encoder.shared returned."""
        bias: Bias | None = shared
        return bias

    def scale(self) -> float | None:
        """Factor on the logits; None: 1 / sqrt(K)."""
        return None

    def mix(
        self, hidden: Tensor, layout: Layout, prefix: Prefix | None, shared: Any, edit: Edit | None, kernel: str
    ) -> tuple[Tensor, Tensor]:
        """(N, D) -> (N, D), (N, D)"""
        rows, hidden = project(self.qkv, hidden) if self.goes_back(hidden) else (self.qkv(hidden), hidden)
        qkv = edit_qkv(rows, hidden, self.spec.heads, edit)
        return attend(qkv, layout, prefix, self.bias(shared), self.scale(), self.drop, kernel), hidden

    def read(
        self, hidden: Tensor, row: Tensor, reads: Reads, layout: Layout, prefix: Prefix | None, shared: Any, edit: Edit | None, kernel: str
    ) -> Tensor:
        """Where one row of each example is read, and the family shares nothing that would be added to logits, no other has a query."""
        if reads == "words" or shared is not None or among(edit, INPUTS) is not None:
            return super().read(hidden, row, reads, layout, prefix, shared, edit, kernel)
        own, heads, width = hidden.index_select(0, row), self.spec.heads, self.spec.hidden
        query = self.qkv.part(own, 0, width).view(len(own), heads, -1)
        kv = self.qkv.part(hidden, width, 3 * width).view(len(hidden), 2, heads, -1)
        return self.finish(own, attend_once(query, kv, layout, prefix, self.scale(), self.drop, kernel), None)

    def finish(self, hidden: Tensor, mixed: Tensor, edit: Edit | None) -> Tensor:
        """(M, D), (M, D) -> (M, D): what follows attention, each row by itself."""
        edit, name = among(edit, OUTPUTS), self.spec.activation
        if edit is None and name in FUSED and self.goes_back(mixed):
            first, second = Half(self.out, self.norm1, self.rate("norm1")), Half(self.down, self.norm2, self.rate("norm2"))
            return finish(mixed, hidden, first, self.up, name, second)
        count = len(hidden)
        if edit is None and self.out.packs(mixed):
            hidden, mixed = longer(hidden), longer(mixed)
        hidden = self.close(self.out, "out", mixed, self.norm1, "norm1", hidden, edit)
        wide = self.up.activated(hidden, name) if edit is None else ACTIVATIONS[name](affine(self.up, "up", hidden, edit))
        return self.close(self.down, "down", wide, self.norm2, "norm2", hidden, edit)[:count]

    def goes_back(self, x: Tensor) -> bool:
        """Whether there is a way back to x through this layer, itself frozen and as Linear.frees wants it."""
        return torch.is_grad_enabled() and x.requires_grad and self.out.frees(x) and not self.norm1.weight.requires_grad

    @property
    def drop(self) -> float:
        """Rate of dropout of attention probabilities."""
        return self.spec.attention_dropout if self.training else 0.0

    def rate(self, end: str) -> float:
        """Of dropout before the norm of that name."""
        return self.spec.dropout if self.training and end in self.drops else 0.0

    def close(self, linear: Linear, site: str, x: Tensor, norm: nn.LayerNorm, end: str, residual: Tensor, edit: Edit | None) -> Tensor:
        """The last map of one half of the layer, dropout, residual and norm."""
        if edit is None and not self.training:
            closed: Tensor = norm(linear.added(x, residual))
            return closed
        y, rate = affine(linear, site, x, edit), self.rate(end)
        if among(edit, frozenset((end,))) is None and fits(y, residual, norm, rate):
            return add_norm(y, residual, norm, rate)
        return affine(norm, end, torch.addcmul(residual, y, keep(y, rate)) if rate else residual + y, edit)


def affine(module: nn.Module, site: str, x: Tensor, edit: Edit | None) -> Tensor:
    """One frozen map, and what the cue makes of it."""
    y: Tensor = module(x)
    return y if edit is None else edit(site, x, y)


def edit_qkv(qkv: Tensor, x: Tensor, heads: int, edit: Edit | None) -> Tensor:
    """(N, 3 D), (N, D) -> (N, 3, H, K): what the cue makes of query, key and value of x; they come from one product and are three sites."""
    edit = among(edit, INPUTS)
    if edit is not None:
        parts = qkv.chunk(3, dim=-1)
        edited = [edit(site, x, y) for site, y in zip(("query", "key", "value"), parts, strict=True)]
        if any(made is not y for made, y in zip(edited, parts, strict=True)):  # else they were changed where they stand
            qkv = torch.cat(edited, dim=-1)
    return qkv.view(len(x), 3, heads, -1)


class Encoder(nn.Module):
    """A frozen encoder of any family; `embed`, `layers`, `pooler` and `norm` are what the family builds."""

    def __init__(
        self, spec: Spec, embed: Embed, layers: Sequence[nn.Module], pooler: nn.Linear | None, norm: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.spec = spec
        self.embed = embed
        self.layers = nn.ModuleList(layers)  # ALBERT: one layer, listed L times
        self.pooler = pooler
        self.norm = norm  # after the last layer, in pre-norm families
        self.kernel = "ragged"

    @property
    def dims(self) -> Dims:
        """What a cue may know."""
        return self.spec.dims

    def shared(self, batch: Batch, layout: Layout) -> Any:
        """What the family's layers share, computed once per forward; a plain layer takes a Bias or None."""
        return None

    def forward(self, batch: Batch, cue: Cue, watch: Watch | None = None, reads: Reads = "all") -> tuple[Tensor, Context]:
        """(N, D) hidden states after the last layer, and the cue's context.

        reads: which rows will be read; where the family and the cue allow it the others are not computed in the last
        layer, and are zeros. Raises BatchError where an example is longer than the encoder's positions.
        """
        self.check(batch)
        ctx = Context(batch)
        word = cue.on_words(self.embed.word(batch.token), ctx)
        hidden = self.embed.finish(word, batch, edits(cue, 0, ctx))
        layout = Layout(batch, watch)
        shared = self.shared(batch, layout)
        for i, layer in enumerate(self.layers):
            hidden = cue.before_layer(i, hidden, ctx)
            prefix, edit = cue.prefix(i, hidden, ctx), edits(cue, i, ctx)
            last = i == len(self.layers) - 1
            if last and reads != "all" and watch is None and isinstance(layer, Halves) and layer.reads(edit):
                row = batch.word if reads == "words" else batch.special[:, 0]
                read = layer.read(hidden, row, reads, layout, prefix, shared, edit, self.kernel)
                return torch.zeros_like(hidden).index_copy(0, row, self.end(read)), ctx
            hidden = layer(hidden, layout, prefix, shared, edit, self.kernel)
        return self.end(hidden), ctx

    def end(self, hidden: Tensor) -> Tensor:
        """(M, D) -> (M, D): what follows the last layer."""
        return hidden if self.norm is None else self.norm(hidden)

    def check(self, batch: Batch) -> None:
        """Refuse an example whose rows, or whose shifted positions, the encoder has no place for."""
        reach = max(batch.reach, batch.longest)
        if reach > self.spec.positions:
            raise BatchError(
                f"an example reaches position {reach}, prompts and shift included; "
                f"this encoder has {self.spec.positions}: truncate the text or shorten the prompt"
            )

    def pool(self, first: Tensor, edit: Edit | None) -> Tensor:
        """(B, D) -> (B, D): the checkpoint's own pooler, on the rows of [CLS]."""
        assert self.pooler is not None
        return torch.tanh(affine(self.pooler, "pooler", first, edit))
