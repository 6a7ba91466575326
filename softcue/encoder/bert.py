"""BERT, and the families that differ from it in names and sizes: RoBERTa, XLM-R, CamemBERT,
ELECTRA, DistilBERT.
"""

from softcue.encoder.core import Embed, Encoder
from softcue.encoder.family import HEADS, EncoderConfig, Family, activation, integer, number, read_spec
from softcue.encoder.layer import Layer
from softcue.encoder.linear import Linear
from softcue.encoder.spec import Spec

Names = dict[str, str | tuple[str, ...]]  # our module -> theirs

LAYER: Names = {
    "layers.{}.qkv": tuple(f"encoder.layer.{{}}.attention.self.{part}" for part in ("query", "key", "value")),
    "layers.{}.out": "encoder.layer.{}.attention.output.dense",
    "layers.{}.norm1": "encoder.layer.{}.attention.output.LayerNorm",
    "layers.{}.up": "encoder.layer.{}.intermediate.dense",
    "layers.{}.down": "encoder.layer.{}.output.dense",
    "layers.{}.norm2": "encoder.layer.{}.output.LayerNorm",
}
EMBED: Names = {
    "embed.words": "embeddings.word_embeddings",
    "embed.position": "embeddings.position_embeddings",
    "embed.segment": "embeddings.token_type_embeddings",
    "embed.norm": "embeddings.LayerNorm",
    "embed.project": "embeddings_project",
}
POOLER: Names = {"pooler": "pooler.dense"}


def post_norm_encoder(spec: Spec, project: bool = False) -> Encoder:
    """Build a plain post-norm encoder of these sizes."""
    pooler = Linear(spec.hidden, spec.hidden) if spec.pooler else None
    return Encoder(spec, Embed(spec, project), [Layer(spec) for _ in range(spec.layers)], pooler)


def build_bert(config: EncoderConfig, pooler: bool) -> Encoder:
    """Build BERT (Devlin et al., 2019)."""
    return post_norm_encoder(read_spec(config, pooler=pooler))


def build_roberta(config: EncoderConfig, pooler: bool) -> Encoder:
    """Build RoBERTa (Liu et al., 2019): positions count from the padding token's id."""
    return post_norm_encoder(
        read_spec(config, pooler=pooler, offset=integer(config, "pad_token_id", 1, least=0) + 1)
    )


def build_electra(config: EncoderConfig, pooler: bool) -> Encoder:
    """Build ELECTRA (Clark et al., 2020): word vectors may be narrower than hidden states."""
    embed = integer(config, "embedding_size", 128)
    spec = read_spec(config, pooler=False, embed=embed)
    return post_norm_encoder(spec, project=embed != spec.hidden)


class DistilbertLayer(Layer):
    """A BERT layer whose attention output has no dropout."""

    drops = ("norm2",)


def build_distilbert(config: EncoderConfig, pooler: bool) -> Encoder:
    """Build DistilBERT (Sanh et al., 2019): no segments, no pooler, its own names for sizes."""
    renamed = {
        "hidden_size": integer(config, "dim"),
        "num_attention_heads": integer(config, "n_heads"),
        "num_hidden_layers": integer(config, "n_layers"),
        "intermediate_size": integer(config, "hidden_dim"),
        "hidden_dropout_prob": number(config, "dropout", 0.1, most=1),
        "attention_probs_dropout_prob": number(config, "attention_dropout", 0.1, most=1),
        "hidden_act": activation(config, "activation", "gelu"),
    }
    spec = read_spec({**config, **renamed}, pooler=False, segments=0, epsilon=1e-12)
    return Encoder(spec, Embed(spec), [DistilbertLayer(spec) for _ in range(spec.layers)], None)


BERT = Family(
    models=("bert",),
    build=build_bert,
    names={**EMBED, **LAYER, **POOLER},
    prefixes=("bert.",),
    linear_heads=("classify", "tag"),
    takes_past=True,
)
ROBERTA = Family(
    models=("roberta", "xlm-roberta", "camembert"),
    build=build_roberta,
    names={**EMBED, **LAYER, **POOLER},
    prefixes=("roberta.", "camembert.", "xlm_roberta."),
    linear_heads=("tag",),
    takes_past=True,
)
ELECTRA = Family(
    models=("electra",),
    build=build_electra,
    names={**EMBED, **LAYER},
    prefixes=("electra.",),
    ignored=(
        *HEADS,
        r"(discriminator_predictions|generator_predictions|generator_lm_head|sequence_summary)\..*",
    ),
    linear_heads=("tag",),
    takes_past=True,
)
DISTILBERT = Family(
    models=("distilbert",),
    build=build_distilbert,
    names={
        **EMBED,
        "layers.{}.qkv": tuple(
            f"transformer.layer.{{}}.attention.{part}" for part in ("q_lin", "k_lin", "v_lin")
        ),
        "layers.{}.out": "transformer.layer.{}.attention.out_lin",
        "layers.{}.norm1": "transformer.layer.{}.sa_layer_norm",
        "layers.{}.up": "transformer.layer.{}.ffn.lin1",
        "layers.{}.down": "transformer.layer.{}.ffn.lin2",
        "layers.{}.norm2": "transformer.layer.{}.output_layer_norm",
    },
    prefixes=("distilbert.",),
    ignored=(*HEADS, r"(vocab_transform|vocab_layer_norm|vocab_projector)\..*"),
    linear_heads=("tag",),
)
