"""The packed encoder that every family is built from: embedding, layers, and the loop that asks the cue."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softcue.attention.attend import KERNELS
from softcue.attention.layout import AttentionObserver, Layout
from softcue.batch import Batch, Reads
from softcue.encoder.affine import Edit, affine, edits
from softcue.encoder.layer import Halves, LayerInputs
from softcue.encoder.linear import Linear
from softcue.encoder.spec import Spec
from softcue.errors import BatchError, RequestError
from softcue.kernels.dropout import dropout
from softcue.protocol import Context, Cue, CueObserver, Dims


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
        """Look up word vectors: (N,) -> (N, E)."""
        # few rows of a large table have a gradient
        return F.embedding(token, self.words.weight, sparse=self.words.weight.requires_grad)

    def add_positions(self, word: Tensor, batch: Batch) -> Tensor:
        """Add position and segment vectors where the family has them: (N, E) -> (N, E)."""
        if self.position is not None:
            word = word + self.position(
                batch.position + self.spec.offset if self.spec.offset else batch.position
            )
        if self.segment is not None:
            word = word + self.segment(batch.segment.clamp(max=self.spec.segments - 1))
        return word

    def finish(self, word: Tensor, batch: Batch, edit: Edit | None) -> Tensor:
        """Apply position, segment, norm, dropout, and the family's projection: (N, E) -> (N, D)."""
        normed = affine(self.norm, "embed_norm", self.add_positions(word, batch), edit)
        hidden = dropout(normed, self.spec.dropout, self.training)
        return hidden if self.project is None else self.project(hidden)


class Encoder(nn.Module):
    """A frozen encoder of any family; `embed`, `layers`, `pooler` and `norm` are what the family builds."""

    def __init__(
        self,
        spec: Spec,
        embed: Embed,
        layers: Sequence[nn.Module],
        pooler: nn.Linear | None,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.embed = embed
        self.layers = nn.ModuleList(layers)  # ALBERT: one layer, listed L times
        self.pooler = pooler
        self.norm = norm  # after the last layer, in pre-norm families
        self.kernel = "ragged"

    @property
    def kernel(self) -> str:
        """The attention kernel, one of KERNELS."""
        return self._kernel

    @kernel.setter
    def kernel(self, name: str) -> None:
        """Choose the attention kernel; RequestError for a name that is none of KERNELS."""
        if name not in KERNELS:
            raise RequestError(f"attention kernel {name!r} is unknown; expected one of {', '.join(KERNELS)}")
        self._kernel = name

    @property
    def dims(self) -> Dims:
        """What a cue may know."""
        return self.spec.dims

    def shared(self, batch: Batch, layout: Layout) -> Any:
        """Compute what the family's layers share, once per forward pass.

        A plain layer takes a Bias or None.
        """
        return None

    def forward(
        self,
        batch: Batch,
        cue: Cue,
        watch: AttentionObserver | None = None,
        reads: Reads = "all",
        watch_cue: CueObserver | None = None,
    ) -> tuple[Tensor, Context]:
        """Return hidden states after the last layer, (N, D), and the cue's context.

        reads: which rows will be read; where the family and the cue allow it the others are not computed in
        the last layer, and are zeros. Raises BatchError where an example is longer than the encoder's
        positions.
        """
        self.check(batch)
        ctx = Context(batch, watch=watch_cue)
        hidden = self.embedded(cue, ctx)
        return self.through(range(len(self.layers)), hidden, cue, ctx, watch, reads), ctx

    def embedded(self, cue: Cue, ctx: Context) -> Tensor:
        """Return the first layer's input: (N, D)."""
        word = cue.on_words(self.embed.word(ctx.batch.token), ctx)
        return self.embed.finish(word, ctx.batch, edits(cue, 0, ctx))

    def through(
        self,
        numbers: range,
        hidden: Tensor,
        cue: Cue,
        ctx: Context,
        watch: AttentionObserver | None = None,
        reads: Reads = "all",
    ) -> Tensor:
        """Apply some layers, and what follows the last if it is among them: (N, D) -> (N, D)."""
        if not numbers:
            return hidden
        batch = ctx.batch
        layout = Layout(batch, watch)
        shared = self.shared(batch, layout)
        final = len(self.layers) - 1
        for i in numbers:
            layer = self.layers[i]
            hidden = cue.before_layer(i, hidden, ctx)
            prefix, edit = cue.prefix(i, hidden, ctx), edits(cue, i, ctx)
            inputs = LayerInputs(layout, prefix, shared, edit, self.kernel)
            if (
                i == final
                and reads != "all"
                and watch is None
                and isinstance(layer, Halves)
                and layer.reads(edit)
            ):
                row = batch.word if reads == "words" else batch.special[:, 0]
                read = layer.read(hidden, row, reads, inputs)
                return torch.zeros_like(hidden).index_copy(0, row, self.end(read))
            hidden = layer(hidden, inputs)
        return self.end(hidden) if final in numbers else hidden

    def end(self, hidden: Tensor) -> Tensor:
        """Apply what follows the last layer: (M, D) -> (M, D)."""
        return hidden if self.norm is None else self.norm(hidden)

    def check(self, batch: Batch) -> None:
        """Refuse an example that has more rows, or larger positions, than the encoder has room for."""
        reach = max(batch.reach, batch.longest)
        if reach > self.spec.positions:
            raise BatchError(
                f"an example reaches position {reach}, prompts and shift included; "
                f"this encoder has {self.spec.positions}: truncate the text or shorten the prompt"
            )

    def pool(self, first: Tensor, edit: Edit | None) -> Tensor:
        """Apply the checkpoint's own pooler to the rows of [CLS]: (B, D) -> (B, D)."""
        assert self.pooler is not None
        return torch.tanh(affine(self.pooler, "pooler", first, edit))
