"""The shapes of an adapter's tensors, computed from its settings without allocating the tensors."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from softcue.adapter.values import first_line
from softcue.cues import Cue
from softcue.encoder.meta import on_meta
from softcue.errors import AdapterError
from softcue.heads import Head
from softcue.protocol import Dims


def shapes_of(values: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that a cue and a head with these settings have.

    Both are built without memory, once for settings that come again. Raises AdapterError if they cannot be
    built.
    """
    cue, kind = Cue.registry[values["method"]], values["kind"]
    settings = values["dims"], values["config"], len(values["labels"]) or 1, values["pooling"]
    try:
        try:
            return dict(_known_shapes(cue, kind, *settings))
        except TypeError:  # settings that cannot be hashed
            return _shapes(cue, kind, *settings)
    except Exception as error:  # settings from a hostile file may fail anywhere in a method's constructor
        raise AdapterError(
            f"config: no {values['method']} can be built from it: {first_line(error)}"
        ) from error


def _shapes(
    cue: type[Cue], kind: str, dims: Dims, config: Any, classes: int, pooling: str
) -> dict[str, tuple[int, ...]]:
    with on_meta():
        parts = {"cue": cue(dims, config, 1), "head": Head(kind, dims.hidden, [classes], pooling)}
    return {
        f"{part}.{name}": tuple(tensor.shape[1:])
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }


_known_shapes: Callable[..., dict[str, tuple[int, ...]]] = lru_cache(maxsize=256)(_shapes)
