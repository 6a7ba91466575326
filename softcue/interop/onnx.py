"""ONNX: one graph of an encoder whose adapters are inputs, with the adapters' numbers beside it."""

import contextlib
import io
import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy
import torch

from softcue.adapter import Adapter
from softcue.answering.served import check_served, reading_of
from softcue.bank.entry import check_name
from softcue.base import Base, open_base
from softcue.encoder.load import TOKENIZER
from softcue.errors import AdapterError, RequestError
from softcue.files import refuse_filled, write_folder
from softcue.interop.onnx_graph import PaddedForward, check_family
from softcue.interop.onnx_numbers import FREE, GRAPH_INPUTS, Numbers, graph_numbers, input_shape, sizes
from softcue.interop.onnx_runner import ADAPTERS, GRAPH, MANIFEST, OUTPUTS, TOKEN_INPUTS, VERSION

OPSET = 20
# Sizes under which the graph is traced, each another so that none is taken for the other.
TRACED = {"A": 3, "B": 4, "T": 9, "C": 6, "S": 5, "P": 7, "R": 8, "r": 2}
DIM_NAMES = {"A": "adapters", "B": "examples", "T": "tokens", **FREE}


def export_onnx(
    adapters: Mapping[str, str | Path | Adapter], folder: str | Path, *, backbone: str | Base | None = None
) -> Path:
    """Write a graph that serves these adapters, in any mix, and all that OnnxPredictor needs beside it.

    adapters: name -> folder or Adapter, all of one backbone. backbone: None loads the one that the first
    names. Whole or not at all. Raises AdapterError and BackboneError for what a graph does not cover,
    RequestError where a package is missing, and WriteError for a folder that is not empty.
    """
    if not adapters:
        raise RequestError("no adapters came; expected one or more of one backbone")
    for name in adapters:
        check_name(name)
    loaded = {name: one if isinstance(one, Adapter) else Adapter.load(one) for name, one in adapters.items()}
    numbers = {name: _numbers(name, adapter) for name, adapter in loaded.items()}
    base = backbone if isinstance(backbone, Base) else open_base(_named(backbone, loaded), "float32")
    encoder, name = base.backbone.encoder, base.backbone.name
    check_family(encoder, name)
    for own, adapter in loaded.items():
        check_served(own, adapter, base)
    present = [key for key in GRAPH_INPUTS if any(key in own for own in numbers.values())]
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
        _write_graph(base, present, into / GRAPH)
        for file in TOKENIZER:
            if (base.backbone.folder / file).is_file():
                shutil.copyfile(base.backbone.folder / file, into / file)
        (into / ADAPTERS).mkdir()
        for own, tensors in numbers.items():
            arrays: dict[str, Any] = {key: tensor.numpy() for key, tensor in tensors.items()}
            numpy.savez(into / ADAPTERS / f"{own}.npz", **arrays)
        (into / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")

    return write_folder(folder, fill, refuse_filled)


def _numbers(name: str, adapter: Adapter) -> Numbers:
    try:
        return {key: tensor.contiguous() for key, tensor in graph_numbers(adapter).items()}
    except AdapterError as error:
        raise AdapterError(f"adapter {name!r}: {error}") from error


def _named(backbone: str | Base | None, loaded: Mapping[str, Adapter]) -> str:
    return str(backbone or next(iter(loaded.values())).backbone)


def _about(adapter: Adapter) -> dict[str, Any]:
    """Return what the runner has to know of an adapter beside its numbers."""
    return {
        "reading": asdict(reading_of(adapter)),
        "pair": adapter.pair,
        "task": adapter.task,
        "columns": dict(adapter.columns),
        "method": adapter.method,
        "unsure_below": adapter.unsure_below,
    }


def _write_graph(base: Base, present: list[str], file: Path) -> None:
    """Trace the forward pass and write it; torch tells its course on standard output, which is not ours."""
    try:
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise RequestError("the ONNX export needs packages: pip install 'softcue[onnx]'") from error
    encoder = base.backbone.encoder
    size = sizes(encoder.dims, {letter: TRACED[letter] for letter in FREE})
    tables = {
        key: torch.zeros(TRACED["A"], *input_shape(key, size), dtype=GRAPH_INPUTS[key].dtype)
        for key in present
    }
    rows, seat = torch.zeros(TRACED["B"], TRACED["T"], dtype=torch.long), torch.zeros(TRACED["B"]).long()
    # a tensor of its own for each: one that comes twice would be one input
    given = {
        **{name: rows.clone() for name in TOKEN_INPUTS},
        "mask": rows + 1,
        "seat": seat,
        "numbers": tables,
    }
    dims = {letter: torch.export.Dim(name) for letter, name in DIM_NAMES.items()}
    of_tables = {
        key: {0: dims["A"]} | {at + 1: dims[x] for at, x in enumerate(GRAPH_INPUTS[key].axes) if x in FREE}
        for key in present
    }
    of_rows = {key: {0: dims["B"], 1: dims["T"]} for key in TOKEN_INPUTS}
    shapes = {**of_rows, "seat": {0: dims["B"]}, "numbers": of_tables}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # torch's and onnxscript's, of their own insides
        program = torch.onnx.export(
            PaddedForward(encoder).eval(),
            kwargs=given,
            dynamo=True,
            input_names=[*TOKEN_INPUTS, "seat", *present],
            output_names=list(OUTPUTS),
            dynamic_shapes=shapes,
            opset_version=OPSET,
        )
        assert program is not None
        program.save(str(file), external_data=True)
