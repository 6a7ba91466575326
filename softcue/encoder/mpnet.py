"""MPNet: a BERT whose layers share one table of biases by distance (Song et al., 2020)."""

import math

import torch
from torch import Tensor, nn

from softcue.attention.distance import ByDistance, distances
from softcue.attention.layout import Layout
from softcue.batch import Batch
from softcue.encoder.bert import EMBED
from softcue.encoder.core import Embed, Encoder
from softcue.encoder.family import EncoderConfig, Family, must_be, read_spec
from softcue.encoder.layer import Layer
from softcue.encoder.linear import Linear
from softcue.encoder.spec import Spec

# transformers computes with 32 whatever the config says; distances beyond 128 share a bucket
BUCKETS, FARTHEST = 32, 128


class MpnetEncoder(Encoder):
    """Adds to each logit a number that depends on head and distance."""

    def __init__(self, spec: Spec, pooler: nn.Linear | None) -> None:
        super().__init__(spec, Embed(spec), [Layer(spec) for _ in range(spec.layers)], pooler)
        self.relative = nn.Embedding(BUCKETS, spec.heads)

    def shared(self, batch: Batch, layout: Layout) -> ByDistance:
        """Return the biases of the distances that the batch has."""
        return ByDistance(
            self.relative(bucket_of(distances(batch.longest, batch.device))).T.float().contiguous()
        )


def bucket_of(distance: Tensor) -> Tensor:
    """Return the row of the bias table for key position minus query position.

    Exact when near, logarithmic when far (Raffel et al., 2020).
    (..) -> (..).
    """
    half = BUCKETS // 2
    exact = half // 2
    far = distance.abs()
    coarse = (
        exact
        + (torch.log(far.clamp(min=1).float() / exact) / math.log(FARTHEST / exact) * (half - exact)).long()
    )
    return half * (distance > 0) + torch.where(far < exact, far, coarse.clamp(max=half - 1))


def build_mpnet(config: EncoderConfig, pooler: bool) -> Encoder:
    """Build MPNet: positions count from 2, and there are no segments."""
    must_be(config, "relative_attention_num_buckets", BUCKETS)
    spec = read_spec(config, pooler=pooler, offset=2, segments=0)
    return MpnetEncoder(spec, Linear(spec.hidden, spec.hidden) if pooler else None)


MPNET = Family(
    models=("mpnet",),
    build=build_mpnet,
    names={
        **EMBED,
        "relative": "encoder.relative_attention_bias",
        "layers.{}.qkv": tuple(f"encoder.layer.{{}}.attention.attn.{part}" for part in "qkv"),
        "layers.{}.out": "encoder.layer.{}.attention.attn.o",
        "layers.{}.norm1": "encoder.layer.{}.attention.LayerNorm",
        "layers.{}.up": "encoder.layer.{}.intermediate.dense",
        "layers.{}.down": "encoder.layer.{}.output.dense",
        "layers.{}.norm2": "encoder.layer.{}.output.LayerNorm",
        "pooler": "pooler.dense",
    },
    prefixes=("mpnet.",),
    linear_heads=("tag",),
)
