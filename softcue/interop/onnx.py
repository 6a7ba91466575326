"""ONNX: one graph of an encoder whose adapters are inputs, with the adapters' tensors beside it."""

import importlib.util
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy

from softcue.adapter import Adapter
from softcue.answering.served import check_served, reading_of
from softcue.bank.entry import check_name
from softcue.base import Base, open_base
from softcue.encoder.load import TOKENIZER
from softcue.errors import AdapterError, RequestError
from softcue.files import refuse_filled, write_folder
from softcue.interop.onnx_graph import write_graph
from softcue.interop.onnx_layers import check_family
from softcue.interop.onnx_runner import ADAPTERS, GRAPH, MANIFEST, VERSION
from softcue.interop.onnx_tensors import GRAPH_INPUTS, graph_tensors, input_shape, sizes
from softcue.interop.peft_tensors import Tensors


def export_onnx(
    adapters: Mapping[str, str | Path | Adapter], folder: str | Path, *, backbone: str | Base | None = None
) -> Path:
    """Write a graph that serves these adapters, in any mix, and all that OnnxPredictor needs beside it.

    adapters: name -> folder or Adapter, all of one backbone. backbone: None loads the one that the first
    names. Whole or not at all. Raises AdapterError and BackboneError for what a graph does not cover,
    RequestError where a package is missing, and WriteError for a folder that is not empty.
    """
    if importlib.util.find_spec("onnx_ir") is None:
        raise RequestError("the ONNX export needs onnx-ir: pip install 'softcue[onnx]'")
    if not adapters:
        raise RequestError("no adapters came; expected one or more of one backbone")
    for name in adapters:
        check_name(name)
    loaded = {name: one if isinstance(one, Adapter) else Adapter.load(one) for name, one in adapters.items()}
    tensors_of = {name: _tensors(name, adapter) for name, adapter in loaded.items()}
    base = backbone if isinstance(backbone, Base) else open_base(_named(backbone, loaded), "float32")
    encoder, name = base.backbone.encoder, base.backbone.name
    check_family(encoder, name)
    for own, adapter in loaded.items():
        check_served(own, adapter, base)
    present = [key for key in GRAPH_INPUTS if any(key in own for own in tensors_of.values())]
    size = sizes(encoder.dims)
    manifest = {
        "library_name": "softcue",
        "format_version": VERSION,
        "backbone": name,
        "fingerprint": base.fingerprint,
        "positions": encoder.spec.positions,
        # of each input its axes behind that of the adapters, their least sizes, and its type
        "inputs": {
            key: [GRAPH_INPUTS[key].axes, input_shape(key, size), str(GRAPH_INPUTS[key].dtype).split(".")[-1]]
            for key in present
        },
        "adapters": {own: _about(adapter) for own, adapter in loaded.items()},
    }

    def fill(into: Path) -> None:
        write_graph(encoder, present, into / GRAPH)
        for file in TOKENIZER:
            if (base.backbone.folder / file).is_file():
                shutil.copyfile(base.backbone.folder / file, into / file)
        (into / ADAPTERS).mkdir()
        for own, tensors in tensors_of.items():
            arrays: dict[str, Any] = {key: tensor.numpy() for key, tensor in tensors.items()}
            numpy.savez(into / ADAPTERS / f"{own}.npz", **arrays)
        (into / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")

    return write_folder(folder, fill, refuse_filled)


def _tensors(name: str, adapter: Adapter) -> Tensors:
    try:
        return {key: tensor.contiguous() for key, tensor in graph_tensors(adapter).items()}
    except AdapterError as error:
        raise AdapterError(f"adapter {name!r}: {error}") from error


def _named(backbone: str | Base | None, loaded: Mapping[str, Adapter]) -> str:
    return str(backbone or next(iter(loaded.values())).backbone)


def _about(adapter: Adapter) -> dict[str, Any]:
    """Return what the runner has to know of an adapter beside its tensors."""
    return {
        "reading": asdict(reading_of(adapter)),
        "pair": adapter.pair,
        "task": adapter.task,
        "columns": dict(adapter.columns),
        "unsure_below": adapter.unsure_below,
    }
