"""The tensors of LoRA, prefix tuning and prompt tuning, between PEFT's layout and softcue's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from softcue.adapter import Adapter
from softcue.cues.lora import LORA_SITES, LoraConfig
from softcue.cues.prompt import PromptConfig
from softcue.cues.ptuning import PtuningConfig
from softcue.encoder.family import Family
from softcue.errors import AdapterError, short
from softcue.protocol import Dims

PROMPT_TABLE = "prompt_embeddings"  # PEFT's one tensor of both kinds of prompts
# settings of LoRA that change what is computed, and that softcue has no counterpart for
LORA_FOREIGN = (
    "use_rslora",
    "use_dora",
    "fan_in_fan_out",
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
)
# values of LoRA's init_lora_weights, or how they begin, under which PEFT changes the encoder's own weights
LORA_REWRITES = ("pissa", "corda", "olora", "loftq")
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Exchange:
    """How one method's tensors are read from PEFT's and written as PEFT's."""

    peft_type: str
    # (PEFT's settings, tensors, dims, family) -> (our config, our cue's tensors); takes out what it reads
    read: Callable[[Mapping[str, Any], Tensors, Dims, Family], tuple[Any, Tensors]]
    # (adapter, family) -> (PEFT's settings, tensors by module)
    write: Callable[[Adapter, Family], tuple[dict[str, Any], Tensors]]
    leaf: bool  # whether PEFT keeps the encoder one level deeper, as it does where it wraps single maps
    pooling: str  # under which a classifier reads the row that transformers' reads


def lora_modules(family: Family) -> dict[str, str]:
    """Return the checkpoint's module of each site of LoRA, {} for the layer, where each layer has its own."""
    joined = family.names["layers.{}.qkv"]
    apart = dict(zip(("query", "key", "value"), joined, strict=True)) if isinstance(joined, tuple) else {}
    named = {**apart, "out": family.names["layers.{}.out"], "up": family.names["layers.{}.up"]}
    return {site: name for site, name in named.items() if isinstance(name, str) and "{}" in name}


def read_lora(
    settings: Mapping[str, Any], tensors: Tensors, dims: Dims, family: Family
) -> tuple[LoraConfig, Tensors]:
    """Return LoRA's config and tensors; a map that PEFT left alone in some layers gets zeros there."""
    foreign = {name: settings[name] for name in LORA_FOREIGN if settings.get(name)}
    if settings.get("bias", "none") != "none":
        foreign["bias"] = settings["bias"]
    started = settings.get("init_lora_weights")
    if isinstance(started, str) and started.lower().startswith(LORA_REWRITES):
        raise AdapterError(
            f"init_lora_weights is {short(started)}, for which PEFT changes the encoder's own weights; save "
            "the adapter with path_initial_model_for_weight_conversion"
        )
    if foreign:
        name, value = next(iter(foreign.items()))
        raise AdapterError(
            f"{name} is {value!r:.60}; softcue reads LoRA of one rank and scale alpha / rank on weights "
            "alone, without it"
        )
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if type(rank) is not int or rank < 1 or isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise AdapterError(f"r is {rank!r:.40} and lora_alpha {alpha!r:.40}; expected a rank and a number")
    modules = lora_modules(family)
    sites = [site for site in LORA_SITES if site in modules and _any_layer(tensors, modules[site], dims)]
    own: Tensors = {}
    for site in sites:
        outputs = dims.ff if site == "up" else dims.hidden
        found = {}  # taken before zeros of that rank are made: the rank may be any number
        for layer in range(dims.layers):
            module = modules[site].format(layer)
            if f"{module}.lora_A.weight" in tensors:
                down = take(tensors, f"{module}.lora_A.weight", (rank, dims.hidden))
                found[layer] = down, take(tensors, f"{module}.lora_B.weight", (outputs, rank))
        shrink, grow = torch.zeros(dims.layers, dims.hidden, rank), torch.zeros(dims.layers, rank, outputs)
        for layer, (down, up) in found.items():
            shrink[layer], grow[layer] = down.mT, up.mT
        own[f"shrink.{site}"], own[f"grow.{site}"] = shrink, grow
    if not sites:
        raise AdapterError(
            f"target_modules is {settings.get('target_modules')!r:.80}; softcue's LoRA adapts "
            f"{', '.join(modules[site].split('{}.')[-1] for site in modules)}"
        )
    dropout = settings.get("lora_dropout") or 0.0
    return LoraConfig(rank=rank, alpha=float(alpha), dropout=dropout, sites=tuple(sites)), own


def write_lora(adapter: Adapter, family: Family) -> tuple[dict[str, Any], Tensors]:
    """Return PEFT's settings and tensors of LoRA."""
    config, modules = adapter.config, lora_modules(family)
    absent = [site for site in config.sites if site not in modules]
    if absent:
        raise AdapterError(
            f"LoRA at {', '.join(absent)} has no counterpart in PEFT here: the checkpoint "
            f"joins these maps or shares them among layers; expected {', '.join(modules) or 'others'}"
        )
    tensors: Tensors = {}
    for site in config.sites:
        for number, (shrink, grow) in enumerate(
            zip(adapter.cue[f"shrink.{site}"], adapter.cue[f"grow.{site}"], strict=True)
        ):
            module = modules[site].format(number + config.first_layer)
            tensors[f"{module}.lora_A.weight"] = shrink.mT.contiguous()
            tensors[f"{module}.lora_B.weight"] = grow.mT.contiguous()
    layers = list(range(config.first_layer, adapter.dims.layers)) if config.first_layer else None
    settings = {
        "r": config.rank,
        "lora_alpha": int(config.alpha) if config.alpha == int(config.alpha) else config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": [modules[site].split("{}.")[-1] for site in config.sites],
        "layers_to_transform": layers,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": ["classifier", "score"],
    }
    return settings, tensors


def read_prefix(
    settings: Mapping[str, Any], tensors: Tensors, dims: Dims, family: Family
) -> tuple[PtuningConfig, Tensors]:
    """Return P-tuning v2's config and tensors; of a projection PEFT saves only what it gives."""
    _check_past(family)
    length = _length(settings)
    table = take(tensors, PROMPT_TABLE, (length, dims.layers * 2 * dims.hidden))
    kv = table.view(length, dims.layers, 2, dims.heads, dims.head).permute(1, 2, 0, 3, 4)
    return PtuningConfig(length=length, dropout=0.0), {"kv": kv.contiguous()}


def write_prefix(adapter: Adapter, family: Family) -> tuple[dict[str, Any], Tensors]:
    """Return PEFT's settings and tensors of P-tuning v2; a re-parameterising network is computed out."""
    _check_past(family)
    config, dims = adapter.config, adapter.dims
    if not config.shift or config.first_layer:
        raise AdapterError(
            f"ptuning with shift={config.shift} and first_layer={config.first_layer} has no counterpart in "
            "PEFT; expected shift=True and first_layer=0"
        )
    kv = keys_and_values(adapter).permute(2, 0, 1, 3, 4)  # (P, L, 2, H, K)
    settings = {
        "num_virtual_tokens": config.length,
        "token_dim": dims.hidden,
        "num_layers": dims.layers,
        "num_attention_heads": dims.heads,
        "num_transformer_submodules": 1,
        "encoder_hidden_size": dims.hidden,
        "prefix_projection": False,
    }
    return settings, {PROMPT_TABLE: kv.reshape(config.length, -1).contiguous()}


def keys_and_values(adapter: Adapter) -> Tensor:
    """Return the prefix of a ptuning adapter, a re-parameterising network computed out: (L, 2, P, H, K)."""
    cue, dims = adapter.cue, adapter.dims
    if not adapter.config.mlp:
        return cue["kv"]
    inner = torch.tanh(cue["words"] @ cue["inner"] + cue["inner_bias"])  # (P, mlp)
    both = inner @ cue["outer"] + cue["outer_bias"][:, None]  # (L, P, 2 D)
    return both.unflatten(-1, (2, dims.heads, dims.head)).transpose(1, 2)


def read_prompt(
    settings: Mapping[str, Any], tensors: Tensors, dims: Dims, family: Family
) -> tuple[PromptConfig, Tensors]:
    """Return prompt tuning's config and tensors."""
    length = _length(settings)
    return PromptConfig(length=length), {"vectors": take(tensors, PROMPT_TABLE, (length, dims.embed))}


def write_prompt(adapter: Adapter, family: Family) -> tuple[dict[str, Any], Tensors]:
    """Return PEFT's settings and tensors of prompt tuning."""
    config, dims = adapter.config, adapter.dims
    if config.enter != "words":
        raise AdapterError(
            f"prompt with enter={config.enter!r} has no counterpart in PEFT, whose prompts are words; "
            "expected enter='words'"
        )
    settings = {
        "num_virtual_tokens": config.length,
        "token_dim": dims.embed,
        "num_layers": dims.layers,
        "num_attention_heads": dims.heads,
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
    }
    return settings, {PROMPT_TABLE: adapter.cue["vectors"].contiguous()}


EXCHANGES: Mapping[str, Exchange] = {
    "lora": Exchange("LORA", read_lora, write_lora, True, "pooler"),
    "ptuning": Exchange("PREFIX_TUNING", read_prefix, write_prefix, False, "pooler"),
    "prompt": Exchange("PROMPT_TUNING", read_prompt, write_prompt, False, "front"),
}


def take(tensors: Tensors, name: str, shape: tuple[int, ...]) -> Tensor:
    """Take a tensor out in float32. Raises AdapterError where it is missing or of another shape."""
    if name not in tensors:
        raise AdapterError(f"has no tensor {name}; expected one of {list(shape)}")
    tensor = tensors.pop(name)
    if tuple(tensor.shape) != shape:
        raise AdapterError(f"{name} is {list(tensor.shape)}; expected {list(shape)} for this encoder")
    return tensor.float()


def _any_layer(tensors: Tensors, module: str, dims: Dims) -> bool:
    return any(f"{module.format(layer)}.lora_A.weight" in tensors for layer in range(dims.layers))


def _length(settings: Mapping[str, Any]) -> int:
    length, copies = settings.get("num_virtual_tokens"), settings.get("num_transformer_submodules")
    if type(length) is not int or length < 1 or copies not in (None, 1):
        raise AdapterError(
            f"num_virtual_tokens is {length!r:.40} and num_transformer_submodules {copies!r:.40}; expected a "
            "number of tokens for one encoder"
        )
    return length


def _check_past(family: Family) -> None:
    if not family.takes_past:
        raise AdapterError(
            f"prefix tuning of {family.models[0]} is not to be had in PEFT: transformers' model takes no "
            "past keys and values; expected LoRA or prompt tuning, or an encoder such as BERT"
        )
