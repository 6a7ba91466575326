"""The graph's forward pass by torch itself, in the place of onnxruntime: what exporting costs is left out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import torch

from softcue.adapter import Adapter
from softcue.answering.served import reading_of
from softcue.base import Base
from softcue.interop.onnx import _about
from softcue.interop.onnx_graph import PaddedForward
from softcue.interop.onnx_numbers import GRAPH_INPUTS, graph_numbers, input_shape, sizes
from softcue.interop.onnx_runner import TOKEN_INPUTS, OnnxPredictor


class EagerSession:
    """Takes what onnxruntime's session takes."""

    def __init__(self, base: Base) -> None:
        self.forward = PaddedForward(base.backbone.encoder)

    @torch.no_grad()
    def run(self, outputs: Sequence[str], feed: Mapping[str, Any]) -> list[numpy.ndarray]:
        given = {name: torch.from_numpy(array) for name, array in feed.items()}
        rows = [given.pop(name) for name in (*TOKEN_INPUTS, "seat")]
        return [made.numpy() for made in self.forward(*rows, given)]


def eager_predictor(base: Base, adapters: Mapping[str, Adapter]) -> OnnxPredictor:
    """An OnnxPredictor of these adapters that needs no graph."""
    runner, size = OnnxPredictor.__new__(OnnxPredictor), sizes(base.backbone.encoder.dims)
    runner.numbers = {
        name: {key: tensor.numpy() for key, tensor in graph_numbers(adapter).items()}
        for name, adapter in adapters.items()
    }
    present = [key for key in GRAPH_INPUTS if any(key in own for own in runner.numbers.values())]
    runner.inputs = {
        key: (
            GRAPH_INPUTS[key].axes,
            input_shape(key, size),
            str(GRAPH_INPUTS[key].dtype).removeprefix("torch."),
        )
        for key in present
    }
    runner.about = {name: _about(adapter) for name, adapter in adapters.items()}
    runner.reading = {name: reading_of(adapter) for name, adapter in adapters.items()}
    runner.text, runner.session, runner.seated = base.text, EagerSession(base), ((), {})
    return runner
