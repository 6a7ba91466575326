"""ALBERT: narrow word vectors, and one layer used L times (Lan et al., 2020)."""

from softcue.encoder.core import Embed, Encoder
from softcue.encoder.family import (
    HEADS,
    EncoderConfig,
    Family,
    activation,
    integer,
    must_be,
    number,
    read_spec,
)
from softcue.encoder.layer import Layer
from softcue.encoder.linear import Linear

GROUP = "encoder.albert_layer_groups.0.albert_layers.0."


class AlbertLayer(Layer):
    """A BERT layer whose feed-forward output has no dropout."""

    drops = ("norm1",)


def build_albert(config: EncoderConfig, pooler: bool) -> Encoder:
    """Build ALBERT; one layer's weights are listed once for every time that they are used."""
    must_be(config, "num_hidden_groups", 1)
    must_be(config, "inner_group_num", 1)
    spec = read_spec(
        config,
        pooler=pooler,
        embed=integer(config, "embedding_size", 128),
        activation=activation(config, "hidden_act", "gelu_new"),
        dropout=number(config, "hidden_dropout_prob", 0.0, most=1),
        attention_dropout=number(config, "attention_probs_dropout_prob", 0.0, most=1),
    )
    layer = AlbertLayer(spec)
    head = Linear(spec.hidden, spec.hidden) if pooler else None
    return Encoder(spec, Embed(spec, project=True), [layer] * spec.layers, head)


ALBERT = Family(
    models=("albert",),
    build=build_albert,
    names={
        "embed.words": "embeddings.word_embeddings",
        "embed.position": "embeddings.position_embeddings",
        "embed.segment": "embeddings.token_type_embeddings",
        "embed.norm": "embeddings.LayerNorm",
        "embed.project": "encoder.embedding_hidden_mapping_in",
        "layers.{}.qkv": tuple(f"{GROUP}attention.{part}" for part in ("query", "key", "value")),
        "layers.{}.out": f"{GROUP}attention.dense",
        "layers.{}.norm1": f"{GROUP}attention.LayerNorm",
        "layers.{}.up": f"{GROUP}ffn",
        "layers.{}.down": f"{GROUP}ffn_output",
        "layers.{}.norm2": f"{GROUP}full_layer_layer_norm",
        "pooler": "pooler",
    },
    prefixes=("albert.",),
    linear_heads=("classify", "tag"),
    ignored=(*HEADS, r"(predictions|sop_classifier)\..*"),
)
