"""ModernBERT: pre-norm layers, rotary positions, gated feed-forward, local and global attention
(Warner et al., 2024).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softcue.attention.attend import attend
from softcue.attention.distance import ByDistance, distances
from softcue.attention.layout import Layout
from softcue.batch import Batch
from softcue.encoder.affine import Edit, affine, edit_qkv
from softcue.encoder.core import Embed, Encoder
from softcue.encoder.family import (
    HEADS,
    EncoderConfig,
    Family,
    activation,
    flag,
    integer,
    must_be,
    number,
    read_spec,
)
from softcue.encoder.layer import Halves, LayerInputs
from softcue.encoder.linear import ACTIVATIONS, Linear
from softcue.encoder.spec import Spec
from softcue.errors import BackboneError

GLOBAL_ATTENTION, LOCAL_ATTENTION = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class Biased:
    """Which kinds of map have a bias."""

    norm: bool
    attention: bool
    ff: bool


@dataclass(frozen=True)
class RotaryPositions:
    """What the layers of one forward share."""

    # base of the rotary angles -> cosines and sines, (N, 1, 1, K) float32
    turn: Mapping[float, tuple[Tensor, Tensor]]
    window: ByDistance | None  # of local layers; None: no example is long enough to feel it


class ModernbertLayer(Halves):
    """A pre-norm layer; a local one sees only rows nearby."""

    def __init__(self, spec: Spec, biased: Biased, theta: float, local: bool, first: bool) -> None:
        super().__init__()
        self.spec, self.theta, self.local = spec, theta, local
        # The first layer's input is already normed by the embedding; its norm is the identity, and a site all
        # the same.
        self.norm1: nn.Module = (
            nn.Identity() if first else nn.LayerNorm(spec.hidden, eps=spec.epsilon, bias=biased.norm)
        )
        self.qkv = Linear(spec.hidden, 3 * spec.hidden, bias=biased.attention)
        self.out = Linear(spec.hidden, spec.hidden, bias=biased.attention)
        self.norm2 = nn.LayerNorm(spec.hidden, eps=spec.epsilon, bias=biased.norm)
        self.up = Linear(spec.hidden, spec.ff, bias=biased.ff)
        self.down = Linear(spec.ff // 2, spec.hidden, bias=biased.ff)
        self.activation = ACTIVATIONS[spec.activation]

    def mix(self, hidden: Tensor, inputs: LayerInputs) -> tuple[Tensor, Tensor]:
        """Apply attention over normed rows: (N, D) -> (N, D), (N, D)."""
        normed = affine(self.norm1, "norm1", hidden, inputs.edit)
        qkv = edit_qkv(self.qkv(normed), normed, self.spec.heads, inputs.edit)
        turned = rotate(qkv, *inputs.shared.turn[self.theta])
        window = inputs.shared.window if self.local else None
        dropout = self.spec.attention_dropout if self.training else 0.0
        return attend(turned, inputs.layout, inputs.prefix, window, None, dropout, inputs.kernel), hidden

    def finish(self, hidden: Tensor, mixed: Tensor, edit: Edit | None) -> Tensor:
        """Add the residual, and a gated feed-forward over normed rows: (M, D), (M, D) -> (M, D)."""
        spec = self.spec
        dropout = spec.attention_dropout if self.training else 0.0
        hidden = hidden + F.dropout(affine(self.out, "out", mixed, edit), dropout, self.training)
        wide, gate = affine(self.up, "up", affine(self.norm2, "norm2", hidden, edit), edit).chunk(2, dim=-1)
        wide = F.dropout(self.activation(wide) * gate, spec.dropout, self.training)
        return hidden + affine(self.down, "down", wide, edit)


class ModernbertEncoder(Encoder):
    """Computes the rotary angles and the window once per forward."""

    def __init__(
        self, spec: Spec, embed: Embed, layers: list[ModernbertLayer], norm: nn.LayerNorm, reach: int
    ) -> None:
        super().__init__(spec, embed, layers, None, norm)
        self.reach = reach  # places on each side that a local layer sees
        self.thetas = sorted({layer.theta for layer in layers})

    def shared(self, batch: Batch, layout: Layout) -> RotaryPositions:
        """Return cosines and sines of each row's position, and what lies in the window."""
        width = self.spec.dims.head
        turn, window = {theta: angles(batch.position, theta, width) for theta in self.thetas}, None
        if batch.longest > self.reach + 1:
            distance = distances(batch.longest, batch.device)
            table = torch.zeros(1, len(distance), device=batch.device).masked_fill(
                distance.abs() > self.reach, -torch.inf
            )
            window = ByDistance(table, hides=True)
        return RotaryPositions(turn, window)


def angles(position: Tensor, theta: float, width: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines, (N, 1, 1, K) float32 (Su et al., 2021): (N,) -> two of them."""
    frequency = theta ** -(torch.arange(0, width, 2, dtype=torch.float32, device=position.device) / width)
    angle = (position[:, None].float() * frequency).repeat(1, 2)[:, None, None]
    return angle.cos(), angle.sin()


def rotate(qkv: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn query and key, and leave value as it was.

    (N, 3, H, K), (N, 1, 1, K), (N, 1, 1, K) -> (N, 3, H, K).
    """
    turned = qkv[:, :2].float()
    left, right = turned.chunk(2, dim=-1)
    turned = turned * cosine + torch.cat([-right, left], dim=-1) * sine
    return torch.cat([turned.to(qkv.dtype), qkv[:, 2:]], dim=1)


def build_modernbert(config: EncoderConfig, pooler: bool) -> Encoder:
    """Build ModernBERT; its sizes are BERT's, its other settings have their own names."""
    renamed = {
        "layer_norm_eps": number(config, "norm_eps", 1e-5),
        "hidden_dropout_prob": number(config, "mlp_dropout", 0.0, most=1),
        "attention_probs_dropout_prob": number(config, "attention_dropout", 0.0, most=1),
        "position_embedding_type": "absolute",  # old checkpoints say "sans_pos", which means rotary alone
    }
    spec = read_spec({**config, **renamed}, pooler=False, segments=0, absolute=False)
    if spec.dims.head % 2:
        raise BackboneError(
            f"config.json says num_attention_heads = {spec.heads}; rotary positions need an even width per "
            "head"
        )
    spec = replace(spec, ff=2 * spec.ff, activation=activation(config, "hidden_activation", "gelu"))
    biased = Biased(*(flag(config, f"{kind}_bias", False) for kind in ("norm", "attention", "mlp")))
    theta = {kind: read_theta(config, kind) for kind in (GLOBAL_ATTENTION, LOCAL_ATTENTION)}
    reach = integer(config, "local_attention", 128) // 2
    layers = [
        ModernbertLayer(spec, biased, theta[kind], local=kind == LOCAL_ATTENTION, first=i == 0)
        for i, kind in enumerate(read_kinds(config, spec.layers))
    ]
    embed = Embed(replace(spec, dropout=number(config, "embedding_dropout", 0.0, most=1)))
    embed.norm = nn.LayerNorm(spec.hidden, eps=spec.epsilon, bias=biased.norm)
    return ModernbertEncoder(
        spec, embed, layers, nn.LayerNorm(spec.hidden, eps=spec.epsilon, bias=biased.norm), reach
    )


def read_kinds(config: EncoderConfig, layers: int) -> list[str]:
    """Return GLOBAL_ATTENTION or LOCAL_ATTENTION for each layer.

    Older configs give only the distance between global ones.
    """
    kinds = config.get("layer_types")
    if kinds is None:
        every = integer(config, "global_attn_every_n_layers", 3)
        return [LOCAL_ATTENTION if i % every else GLOBAL_ATTENTION for i in range(layers)]
    if (
        not isinstance(kinds, list)
        or len(kinds) != layers
        or any(kind not in (GLOBAL_ATTENTION, LOCAL_ATTENTION) for kind in kinds)
    ):
        raise BackboneError(
            f"config.json says layer_types = {kinds!r}; expected {GLOBAL_ATTENTION} or {LOCAL_ATTENTION} "
            f"for each of {layers} layers"
        )
    return kinds


def read_theta(config: EncoderConfig, kind: str) -> float:
    """Read the base of the rotary angles, in the new or the old way of writing it."""
    must_be(config, "rope_scaling", {})
    given = config.get("rope_parameters") or {}
    rope = given.get(kind) or {} if isinstance(given, dict) else None
    if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
        raise BackboneError(
            f"config.json says rope_parameters = {given!r}; softcue knows rope_type 'default' for "
            f"{GLOBAL_ATTENTION} and {LOCAL_ATTENTION}"
        )
    old, base = (
        ("global_rope_theta", 160_000.0) if kind == GLOBAL_ATTENTION else ("local_rope_theta", 10_000.0)
    )
    return number(rope, "rope_theta", number(config, old, base))


MODERNBERT = Family(
    models=("modernbert",),
    build=build_modernbert,
    names={
        "embed.words": "embeddings.tok_embeddings",
        "embed.norm": "embeddings.norm",
        "layers.{}.norm1": "layers.{}.attn_norm",
        "layers.{}.qkv": "layers.{}.attn.Wqkv",
        "layers.{}.out": "layers.{}.attn.Wo",
        "layers.{}.norm2": "layers.{}.mlp_norm",
        "layers.{}.up": "layers.{}.mlp.Wi",
        "layers.{}.down": "layers.{}.mlp.Wo",
        "norm": "final_norm",
    },
    prefixes=("model.",),
    ignored=(*HEADS, r"(head|decoder)\..*"),
)
