"""What a graph is given of each adapter: every method's tensors in one form, where zero is "nothing"."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from softcue.adapter import Adapter
from softcue.cues.bitfit import layer_sites, single_sites
from softcue.cues.pasta import vector_of_slot
from softcue.errors import AdapterError
from softcue.heads import POOLINGS
from softcue.interop.onnx_runner import FREE
from softcue.interop.peft_tensors import Tensors, keys_and_values
from softcue.protocol import Dims


@dataclass(frozen=True)
class Input:
    """One input of a graph: its axes behind that of the adapters, by their letters, and its type.

    The letters of FREE differ from adapter to adapter, and are padded with zeros.
    """

    axes: str
    dtype: torch.dtype = torch.float32


GRAPH_INPUTS: Mapping[str, Input] = {
    "head_weight": Input("CD"),  # these four of every adapter
    "head_bias": Input("C"),
    "pooling": Input("4"),  # which of POOLINGS the head reads
    "shift": Input("", torch.int64),  # of the text's positions
    "delta": Input("LSD"),  # added to special tokens at each layer's input
    "prefix": Input("L2PHK"),
    "prefix_seen": Input("LP"),  # 1 where the layer sees the prefix token
    "selects": Input(""),  # 1 where the prefix's own score gates it
    "tau": Input(""),
    "gate": Input("LDP"),  # of the layer's input, on the prefix
    "gate_bias": Input("LP"),
    "gates": Input(""),  # 1 where that gate is asked
    "gate_mean": Input(""),  # 1 where it reads the mean of the tokens, not the first
    "scale_less_one": Input("L"),  # of the prefix, less 1
    "front": Input("R"),  # 1 for rows in front of the text
    "words": Input("RE"),  # what stands in these rows as words
    "entered": Input("RD"),  # what stands there at the first layer's input
    "enters": Input(""),  # 1 where `entered` replaces what became of `words`
    "remember": Input("DD"),
    "forget": Input("DD"),
    "cell_bias": Input("D"),
    "cell_norm": Input("2D"),  # weight and bias
    "cell": Input("5"),  # 1 for: a cell, tanh, convex gate, norm, memory of the first prompt
    **{f"shrink.{site}": Input("LDr") for site in ("query", "key", "value", "out", "up")},
    **{f"grow.{site}": Input("LrD") for site in ("query", "key", "value", "out")},
    "grow.up": Input("LrF"),
    **{f"bias.{s}": Input("LD") for s in ("query", "key", "value", "out", "down", "norm1", "norm2")},
    "bias.up": Input("LF"),
    "bias.embed_norm": Input("N"),
    "bias.pooler": Input("D"),
}


def sizes(dims: Dims, free: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return the size of each letter; those of FREE are 1 where they are not given."""
    fixed = {"L": dims.layers, "D": dims.hidden, "H": dims.heads, "K": dims.head, "E": dims.embed}
    others = {"F": dims.ff, "N": dims.embed_norm or dims.embed, "2": 2, "4": 4, "5": 5}
    return {**fixed, **others, **dict.fromkeys(FREE, 1), **(free or {})}


def input_shape(name: str, size: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape of one adapter's input."""
    return tuple(size[letter] for letter in GRAPH_INPUTS[name].axes)


def graph_tensors(adapter: Adapter) -> Tensors:
    """Return an adapter's inputs, without the seat axis; what it leaves out is zero.

    Raises AdapterError for a method, or a setting of it, that a graph does not cover.
    """
    read = READ_METHOD.get(adapter.method)
    if read is None or adapter.tuned == "full":
        what = "a fully tuned encoder" if adapter.tuned == "full" else f"method {adapter.method}"
        raise AdapterError(f"{what} has no ONNX form; expected one of {', '.join(READ_METHOD)}")
    pooling = torch.zeros(len(POOLINGS))
    pooling[POOLINGS.index(adapter.pooling)] = 1
    return {
        "head_weight": adapter.head["weight"],
        "head_bias": adapter.head["bias"],
        "pooling": pooling,
        "shift": torch.tensor(0),
        **read(adapter),
    }


def _pasta(adapter: Adapter) -> Tensors:
    config, dims = adapter.config, adapter.dims
    vectors = vector_of_slot(config)
    delta = torch.zeros(dims.layers, len(vectors), dims.hidden)
    for slot, vector in enumerate(vectors):
        if vector >= 0:
            delta[config.first_layer :, slot] = adapter.cue["delta"][:, vector]
    return {"delta": delta}


def _stp(adapter: Adapter) -> Tensors:
    place = torch.tensor(adapter.config.place)  # (L, S)
    delta = adapter.cue["delta"][place.clamp(min=0)]
    return {"delta": delta.masked_fill((place < 0).unsqueeze(-1), 0.0)}


def _prefix(adapter: Adapter, kv: Tensor) -> Tensors:
    """Return a prefix that layers below `first_layer` do not see: (L', 2, P, H, K)."""
    dims, first = adapter.dims, adapter.config.first_layer
    whole = torch.zeros(dims.layers, *kv.shape[1:])
    whole[first:] = kv
    seen = torch.zeros(dims.layers, kv.shape[2])
    seen[first:] = 1
    return {"prefix": whole, "prefix_seen": seen}


def _ptuning(adapter: Adapter) -> Tensors:
    return {**_prefix(adapter, keys_and_values(adapter)), "shift": _shift(adapter)}


def _spt(adapter: Adapter) -> Tensors:
    tau = torch.tensor(float(adapter.config.tau))
    return {**_prefix(adapter, adapter.cue["kv"]), "selects": torch.tensor(1.0), "tau": tau}


def _apt(adapter: Adapter) -> Tensors:
    config, dims, cue = adapter.config, adapter.dims, adapter.cue
    tensors = {**_prefix(adapter, cue["kv"]), "shift": _shift(adapter)}
    own = {
        "gate": torch.zeros(dims.layers, dims.hidden, config.length),
        "gate_bias": torch.zeros(dims.layers, config.length),
        "scale_less_one": torch.zeros(dims.layers),
        "gates": torch.tensor(float(config.token_gate)),
        "gate_mean": torch.tensor(float(config.reads == "mean")),
    }
    for name in ("gate", "gate_bias"):
        if name in cue:
            own[name][config.first_layer :] = cue[name]
    if "scale" in cue:
        own["scale_less_one"][config.first_layer :] = cue["scale"] - 1
    return {**tensors, **own}


def _prompt(adapter: Adapter) -> Tensors:
    vectors = adapter.cue["vectors"]
    front = {"front": torch.ones(len(vectors)), "shift": torch.tensor(len(vectors))}
    if adapter.config.enter == "words":
        return {**front, "words": vectors}
    return {**front, "entered": vectors, "enters": torch.tensor(1.0)}


def _gpc(adapter: Adapter) -> Tensors:
    config, cue = adapter.config, adapter.cue
    if not config.shared:
        raise AdapterError("gpc with shared=False has no ONNX form; expected one cell for all layers")
    vectors = cue["vectors"]
    kinds = (
        True,
        config.combine == "tanh",
        config.combine == "gate",
        config.norm,
        config.memory == "initial",
    )
    tensors = {
        "front": torch.ones(len(vectors)),
        "shift": torch.tensor(len(vectors)),
        "entered": vectors,
        "enters": torch.tensor(1.0),
        "remember": cue["remember"][0],
        "forget": cue["forget"][0],
        "cell": torch.tensor(kinds).float(),
    }
    if config.bias:
        tensors["cell_bias"] = cue["bias"][0]
    if config.norm:
        tensors["cell_norm"] = torch.stack([cue["norm_weight"][0], cue["norm_bias"][0]])
    return tensors


def _lora(adapter: Adapter) -> Tensors:
    config, layers = adapter.config, adapter.dims.layers
    tensors: Tensors = {}
    for site in config.sites:
        for part, factor in (("shrink", 1.0), ("grow", config.alpha / config.rank)):
            table = adapter.cue[f"{part}.{site}"]
            whole = torch.zeros(layers, *table.shape[1:])
            whole[config.first_layer :] = table * factor
            tensors[f"{part}.{site}"] = whole
    return tensors


def _bitfit(adapter: Adapter) -> Tensors:
    every = {f"bias.{site}": adapter.cue[f"every_layer.{site}"] for site in layer_sites(adapter.dims)}
    return {**every, **{f"bias.{site}": adapter.cue[f"once.{site}"] for site in single_sites(adapter.dims)}}


def _shift(adapter: Adapter) -> Tensor:
    return torch.tensor(adapter.config.length if adapter.config.shift else 0)


READ_METHOD: Mapping[str, Callable[[Adapter], Tensors]] = {
    "pasta": _pasta,
    "stp": _stp,
    "spt": _spt,
    "gpc": _gpc,
    "apt": _apt,
    "ptuning": _ptuning,
    "prompt": _prompt,
    "lora": _lora,
    "bitfit": _bitfit,
    "probe": lambda adapter: {},
}
