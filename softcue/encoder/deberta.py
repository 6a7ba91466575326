"""DeBERTa v2 and v3: logits that add content-to-position and position-to-content terms (He et al., 2021)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softcue.attention.attend import Bias
from softcue.attention.layout import Bucket, Layout
from softcue.batch import Batch, sent
from softcue.encoder.affine import Edit, affine
from softcue.encoder.bert import LAYER
from softcue.encoder.core import Embed, Encoder
from softcue.encoder.family import HEADS, EncoderConfig, Family, activation, flag, integer, must_be, read_spec
from softcue.encoder.layer import Layer, LayerInputs
from softcue.encoder.linear import ACTIVATIONS, Linear
from softcue.encoder.spec import Spec
from softcue.errors import BackboneError

TERMS = ("c2p", "p2c")


@dataclass(frozen=True)
class Distances:
    """How DeBERTa tells distances apart."""

    terms: tuple[str, ...]  # which of TERMS the logits add
    share: bool  # whether position vectors go through the content's own query and key maps
    relative: bool  # whether there are position vectors at all
    span: int  # position vectors on each side
    buckets: int  # of logarithmic distance; below 1: every distance has its own
    farthest: int
    norm: bool  # whether position vectors are normed

    def row(self, distance: Tensor) -> Tensor:
        """Return the row of the position table for query position minus key position.

        (..) -> (..).
        """
        if self.buckets > 0:
            middle = self.buckets // 2
            far = distance.abs().clamp(min=middle)
            ratio = torch.log(far / middle) / torch.log(torch.tensor((self.farthest - 1) / middle))
            coarse = torch.ceil(ratio * (middle - 1)) + middle
            distance = torch.where(distance.abs() <= middle, distance, (coarse * distance.sign()).long())
        return (distance + self.span).clamp(0, 2 * self.span - 1)


@dataclass(frozen=True)
class RelativePositions:
    """What the layers of one forward share."""

    table: Tensor | None  # (W, D) position vectors of the distances that the batch holds
    falling: Tensor  # (2 T,) their rows for distances T - 1 down to -T
    rising: Tensor  # (2 T,) their rows for distances 1 - T up to T
    longest: int
    batch: Batch


class DebertaEmbed(Embed):
    """Projects before the norm, where BERT's relatives project after it."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.norm = nn.LayerNorm(spec.hidden, eps=spec.epsilon)
        self.project = Linear(spec.embed, spec.hidden, bias=False) if spec.embed != spec.hidden else None

    def finish(self, word: Tensor, batch: Batch, edit: Edit | None) -> Tensor:
        """Apply position, segment, norm, dropout and projection: (N, E) -> (N, D)."""
        word = self.add_positions(word, batch)
        hidden = word if self.project is None else self.project(word)
        return F.dropout(affine(self.norm, "embed_norm", hidden, edit), self.spec.dropout, self.training)


class DebertaLayer(Layer):
    """A BERT layer whose logits know distances."""

    def __init__(self, spec: Spec, distances: Distances) -> None:
        super().__init__(spec)
        self.distances = distances
        own = distances.relative and not distances.share
        self.place_key = Linear(spec.hidden, spec.hidden) if own and "c2p" in distances.terms else None
        self.place_query = Linear(spec.hidden, spec.hidden) if own and "p2c" in distances.terms else None

    def scale(self) -> float:
        """Return 1 / sqrt(K times the number of terms)."""
        return float((self.spec.hidden // self.spec.heads * (1 + len(self.distances.terms))) ** -0.5)

    def bias(self, shared: RelativePositions) -> Bias | None:
        """Return the terms that involve positions, already scaled."""
        if shared.table is None or not self.distances.terms:
            return None
        table = F.dropout(shared.table, self.spec.dropout, self.training)
        key = (
            self.project(table, 1, self.place_key)[..., shared.falling]
            if "c2p" in self.distances.terms
            else None
        )
        query = (
            self.project(table, 0, self.place_query)[..., shared.rising]
            if "p2c" in self.distances.terms
            else None
        )
        scale = self.scale()

        def terms(content_query: Tensor, content_key: Tensor, bucket: Bucket) -> Tensor:
            count = content_query.shape[-2]
            near = slice(shared.longest - count, shared.longest + count)
            sides = []
            if key is not None:
                sides.append(skew(torch.einsum("bhtk,hkw->bhtw", content_query * scale, key[..., near])))
            if query is not None:
                sides.append(skew(torch.einsum("bhtk,hkw->bhtw", content_key * scale, query[..., near])).mT)
            return sides[0] if len(sides) == 1 else sides[0] + sides[1]

        return terms

    def project(self, table: Tensor, part: int, linear: nn.Linear | None) -> Tensor:
        """Project the position table through the layer's own map: (W, D) -> (H, K, W).

        Where it has none: through part 0 (query) or 1 (key) of the content's.
        """
        width = self.spec.hidden
        projected = (
            self.qkv.part(table, part * width, (part + 1) * width) if linear is None else linear(table)
        )
        return projected.view(len(table), self.spec.heads, -1).permute(1, 2, 0)


class ConvolvedLayer(DebertaLayer):
    """The first layer of the large v2 models, which adds a convolution of its input."""

    def __init__(self, spec: Spec, distances: Distances, kernel: int, activation: str) -> None:
        super().__init__(spec, distances)
        self.convolution = nn.Conv1d(spec.hidden, spec.hidden, kernel)
        self.norm3 = nn.LayerNorm(spec.hidden, eps=spec.epsilon)
        self.convolved = ACTIVATIONS[activation]

    def forward(self, hidden: Tensor, inputs: LayerInputs) -> Tensor:
        """Apply the layer and a convolution of its input: (N, D) -> (N, D)."""
        output = super().forward(hidden, inputs)
        weight = self.convolution.weight.permute(2, 1, 0).flatten(0, 1)  # (kernel * D, D)
        assert self.convolution.bias is not None
        around = (
            neighbours(hidden, inputs.shared.batch, self.convolution.kernel_size[0]) @ weight
            + self.convolution.bias
        )
        normed: Tensor = self.norm3(
            output + self.convolved(F.dropout(around, self.spec.dropout, self.training))
        )
        return normed


class DebertaEncoder(Encoder):
    """Holds the position vectors that all layers read."""

    def __init__(self, spec: Spec, distances: Distances, layers: list[nn.Module]) -> None:
        super().__init__(spec, DebertaEmbed(spec), layers, None)
        self.distances = distances
        self.relative = nn.Embedding(2 * distances.span, spec.hidden) if distances.relative else None
        normed = distances.relative and distances.norm
        self.relative_norm = nn.LayerNorm(spec.hidden, eps=spec.epsilon) if normed else None

    def shared(self, batch: Batch, layout: Layout) -> RelativePositions:
        """Return the stretch of the position table that the batch's distances fall on.

        Work grows with the text, not with the table.
        """
        longest = layout.columns
        # on the host: the stretch is known without waiting
        row = self.distances.row(torch.arange(-longest, longest + 1))
        first, last = int(row[0]), int(row[-1])
        row = sent(row - first, batch.device)
        table = None if self.relative is None else self.relative.weight[first : last + 1]
        table = table if table is None or self.relative_norm is None else self.relative_norm(table)
        return RelativePositions(table, row[:-1].flip(0), row[1:], longest, batch)


def skew(x: Tensor) -> Tensor:
    """Shift row i of a table by t - 1 - i, by views alone: (.., t, 2 t) -> (.., t, t)."""
    count = x.shape[-2]
    return x.flatten(-2)[..., count - 1 : -1].unflatten(-1, (count, 2 * count - 1))[..., :count]


def neighbours(hidden: Tensor, batch: Batch, kernel: int) -> Tensor:
    """Put each row between the rows beside it: (N, D) -> (N, kernel * D).

    Beyond its own example there are zeros.
    """
    half = kernel // 2
    length = sent(torch.tensor(batch.lengths), batch.device)[batch.owner]
    column = batch.index[:, None] + torch.arange(-half, half + 1, device=batch.device)
    inside = (column >= 0) & (column < length[:, None])
    row = torch.arange(len(hidden), device=batch.device)[:, None] + (column - batch.index[:, None])
    return (hidden[row.clamp(0, len(hidden) - 1)] * inside.unsqueeze(-1)).flatten(1)


def build_deberta(config: EncoderConfig, pooler: bool) -> Encoder:
    """Build DeBERTa v2 or v3; the checkpoint's own pooler belongs to its classifier and is left out."""
    segments = integer(config, "type_vocab_size", 0, least=0)
    absolute = flag(config, "position_biased_input", True)
    spec = read_spec({"layer_norm_eps": 1e-7, **config}, pooler=False, segments=segments, absolute=absolute)
    spec = replace(spec, embed=integer(config, "embedding_size", spec.hidden), norm_last=True)
    must_be(config, "attention_head_size", spec.hidden // spec.heads)
    must_be(config, "conv_groups", 1)
    distances = read_distances(config, spec)
    layers: list[nn.Module] = [DebertaLayer(spec, distances) for _ in range(spec.layers)]
    kernel = integer(config, "conv_kernel_size", 0, least=0)
    if kernel:
        if kernel % 2 == 0:
            raise BackboneError(f"config.json says conv_kernel_size = {kernel}; softcue builds only odd ones")
        layers[0] = ConvolvedLayer(spec, distances, kernel, activation(config, "conv_act", "tanh"))
    return DebertaEncoder(spec, distances, layers)


def read_distances(config: EncoderConfig, spec: Spec) -> Distances:
    """Read what config.json says on relative positions."""
    named = config.get("pos_att_type") or []
    listed = named.lower().split("|") if isinstance(named, str) else named
    terms = tuple(str(term).strip() for term in listed) if isinstance(listed, list) else (str(named),)
    if not set(terms) <= set(TERMS):
        raise BackboneError(f"config.json says pos_att_type = {named!r}; softcue knows {' and '.join(TERMS)}")
    farthest = integer(config, "max_relative_positions", -1, least=-1)
    farthest = farthest if farthest >= 1 else integer(config, "max_position_embeddings", 512)
    buckets = integer(config, "position_buckets", -1, least=-1)
    return Distances(
        terms=terms,
        share=flag(config, "share_att_key", False),
        relative=flag(config, "relative_attention", False),
        span=buckets if buckets > 0 else farthest,
        buckets=buckets,
        farthest=farthest,
        norm="layer_norm" in str(config.get("norm_rel_ebd", "none")).lower(),
    )


SELF = "encoder.layer.{}.attention.self."
DEBERTA = Family(
    models=("deberta-v2",),
    build=build_deberta,
    names={
        **LAYER,
        "embed.words": "embeddings.word_embeddings",
        "embed.position": "embeddings.position_embeddings",
        "embed.segment": "embeddings.token_type_embeddings",
        "embed.norm": "embeddings.LayerNorm",
        "embed.project": "embeddings.embed_proj",
        "relative": "encoder.rel_embeddings",
        "relative_norm": "encoder.LayerNorm",
        "layers.{}.qkv": (f"{SELF}query_proj", f"{SELF}key_proj", f"{SELF}value_proj"),
        "layers.{}.place_key": f"{SELF}pos_key_proj",
        "layers.{}.place_query": f"{SELF}pos_query_proj",
        "layers.{}.convolution": "encoder.conv.conv",
        "layers.{}.norm3": "encoder.conv.LayerNorm",
    },
    prefixes=("deberta.",),
    linear_heads=("tag",),
    ignored=(
        *HEADS,
        r"(lm_predictions|mask_predictions|pooler)\..*",
        r"embeddings\.position_embeddings\.weight",
    ),
)
