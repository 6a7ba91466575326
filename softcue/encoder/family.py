"""What a family of encoders declares, and how config.json is read for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from softcue.encoder.core import Encoder
from softcue.encoder.linear import ACTIVATIONS
from softcue.encoder.spec import Spec
from softcue.errors import BackboneError

EncoderConfig = Mapping[str, Any]  # config.json

# what checkpoints carry beside the encoder: buffers, pre-training heads, heads of a fine-tuned task
HEADS = (
    r"(.*\.)?position_ids",
    r"(.*\.)?token_type_ids",
    r"(cls|lm_head|classifier|qa_outputs|pre_classifier|score)\..*",
)


@dataclass(frozen=True)
class Family:
    """One architecture: how to build it, and how its checkpoints name things."""

    models: tuple[str, ...]  # model_type in config.json
    build: Callable[[EncoderConfig, bool], Encoder]  # (config, whether the checkpoint has a pooler)
    # our module -> theirs, {} is the layer; several are joined along axis 0
    names: Mapping[str, str | tuple[str, ...]]
    prefixes: tuple[str, ...]  # what a checkpoint with a head writes in front of the encoder's names
    ignored: tuple[str, ...] = HEADS  # patterns of names that may be left over
    # kinds whose head in transformers is one linear map, on the pooler's output or on each token's row
    linear_heads: tuple[str, ...] = ()
    takes_past: bool = False  # whether transformers' model takes past keys and values


def integer(
    config: EncoderConfig, key: str, default: int | None = None, least: int = 1, most: int = 10_000_000
) -> int:
    """Read a whole number of config.json from `least` to `most`; without a default it must be there."""
    value = _value(config, key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BackboneError(
            f"config.json says {key} = {value!r}; expected a whole number from {least} to {most}"
        )
    return value


def number(config: EncoderConfig, key: str, default: float, most: float = float("inf")) -> float:
    """Read a number of config.json between 0 and `most`."""
    value = _value(config, key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise BackboneError(f"config.json says {key} = {value!r}; expected a number from 0 to {most}")
    return float(value)


def flag(config: EncoderConfig, key: str, default: bool) -> bool:
    """Read a true or false of config.json."""
    value = _value(config, key, default)
    if not isinstance(value, bool):
        raise BackboneError(f"config.json says {key} = {value!r}; expected true or false")
    return value


def choice(config: EncoderConfig, key: str, default: str, known: Sequence[str]) -> str:
    """Read a word of config.json that must be one of `known`."""
    value = _value(config, key, default)
    if value not in known:
        raise BackboneError(f"config.json says {key} = {value!r}; softcue knows {', '.join(known)}")
    return str(value)


def activation(config: EncoderConfig, key: str, default: str) -> str:
    """Read the name of an activation that softcue has."""
    return choice(config, key, default, tuple(ACTIVATIONS))


def must_be(config: EncoderConfig, key: str, expected: Any) -> None:
    """Refuse a config that asks for what softcue does not build."""
    value = _value(config, key, expected)
    if value != expected:
        raise BackboneError(
            f"config.json says {key} = {value!r}; softcue builds only encoders with {key} = {expected!r}"
        )


def read_spec(config: EncoderConfig, **family: Any) -> Spec:
    """Read the sizes under the names that BERT gave them.

    `family` sets what differs. Raises BackboneError.
    """
    must_be(config, "position_embedding_type", "absolute")
    must_be(config, "is_decoder", False)
    must_be(config, "add_cross_attention", False)
    hidden, heads = integer(config, "hidden_size"), integer(config, "num_attention_heads")
    if hidden % heads:
        raise BackboneError(
            f"config.json says hidden_size = {hidden}, which num_attention_heads = {heads} does not divide"
        )
    offset = family.get("offset", 0)
    sizes: dict[str, Any] = {
        "vocabulary": integer(config, "vocab_size"),
        "layers": integer(config, "num_hidden_layers", most=1000),
        "hidden": hidden,
        "heads": heads,
        "ff": integer(config, "intermediate_size"),
        "embed": hidden,
        "positions": integer(config, "max_position_embeddings", 512, least=offset + 1) - offset,
        "segments": integer(config, "type_vocab_size", 2, least=0),
        "activation": activation(config, "hidden_act", "gelu"),
        "epsilon": number(config, "layer_norm_eps", 1e-12),
        "dropout": number(config, "hidden_dropout_prob", 0.1, most=1),
        "attention_dropout": number(config, "attention_probs_dropout_prob", 0.1, most=1),
    }
    return Spec(**{**sizes, **family})


def _value(config: EncoderConfig, key: str, default: Any) -> Any:
    value = config.get(key)
    if value is not None:
        return value
    if default is None:
        raise BackboneError(f"config.json has no {key}; expected the configuration of an encoder")
    return default
