"""Answering by a graph: onnxruntime, NumPy and the tokenizer, without torch."""

import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy

from softcue.answering.answers import Question, ask, inputs_for, say
from softcue.errors import AdapterError, RequestError
from softcue.files import as_path, open_regular, read_json
from softcue.kinds import KINDS
from softcue.kinds.base import READS_CHOICES, READS_WORDS
from softcue.kinds.record import Reading
from softcue.text.example import Example
from softcue.text.tokens import Text

GRAPH, MANIFEST, ADAPTERS = "model.onnx", "graph.json", "adapters"
VERSION = 1
TOKEN_INPUTS = ("token", "segment", "slot", "mask")  # inputs with a number for each token
OUTPUTS = ("logits", "token_logits")
ADAPTER_FIELDS = ("reading", "pair", "task", "columns", "unsure_below")  # what graph.json says of an adapter
ALWAYS = ("head_weight", "head_bias", "pooling", "shift")  # inputs that every adapter fills
# the axes of an input, by their letters, that differ from adapter to adapter; they are padded with zeros
FREE = {"C": "classes", "S": "slots", "P": "prefix", "R": "prompt", "r": "rank"}
GRAPH_BUDGET = 4_096  # tokens of one run, padding included
NumpyArray = numpy.ndarray
Inputs = Mapping[str, tuple[str, tuple[int, ...], str]]  # name -> letters, least sizes, and type
AskedExample = tuple[int, Example]  # the number of a request, and one of its examples


class OnnxPredictor:
    """Answers requests for any adapters of an exported folder, which share a run of its graph."""

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        """Load a folder that export_onnx wrote.

        threads: of onnxruntime; 0: as many as there are cores. Raises AdapterError for a folder of another
        kind, and RequestError where onnxruntime is missing.
        """
        place = as_path("folder", folder)
        manifest = _read_manifest(place / MANIFEST)
        self.inputs, self.positions = manifest.inputs, manifest.positions
        self.about, self.reading = manifest.about, manifest.reading
        self.text = Text.load(place, self.positions)
        self.arrays = {
            name: _read_arrays(place / ADAPTERS / f"{name}.npz", self.inputs) for name in self.about
        }
        self.session = _session(place / GRAPH, threads)
        self.seated: tuple[tuple[str, ...], dict[str, NumpyArray]] = ((), {})

    def __call__(
        self, requests: Sequence[Mapping[str, Any]], budget: int = GRAPH_BUDGET
    ) -> list[dict[str, Any]]:
        """Return one answer per request, in order, as Predictor does.

        budget: tokens of one run, padding included. Raises RequestError that names the request.
        """
        if isinstance(requests, str | bytes | Mapping):
            raise RequestError(f"{type(requests).__name__} came as requests; expected a list of objects")
        questions = [self._question(i, request) for i, request in enumerate(requests)]
        names = [request["adapter"] for request in requests]
        asked = [(i, one) for i, question in enumerate(questions) for one in question.item.examples]
        made: list[NumpyArray] = [numpy.empty(0)] * len(asked)
        for batch in _batches(asked, budget):
            for place, logits in zip(batch, self._run([asked[p] for p in batch], names), strict=True):
                made[place] = logits
        own: list[list[NumpyArray]] = [[] for _ in questions]
        for (i, _), logits in zip(asked, made, strict=True):
            own[i].append(logits)
        return [say(_answer(parts, q), q) for parts, q in zip(own, questions, strict=True)]

    def _question(self, number: int, request: Mapping[str, Any]) -> Question:
        if not isinstance(request, Mapping):
            raise RequestError(
                f"request {number} is {request!r:.60}; expected an object with adapter and text"
            )
        name = request.get("adapter")
        if not isinstance(name, str) or name not in self.about:
            known = ", ".join(list(self.about)[:10])
            raise RequestError(f"request {number} names the adapter {name!r:.60}; this graph has {known}")
        about = self.about[name]
        try:
            inputs = inputs_for(request, about["task"], about["columns"])
            question = ask(inputs, self.reading[name], about["pair"], self.text)
            self._check(question, self.arrays[name])
            return replace(question, unsure_below=about["unsure_below"])
        except RequestError as error:
            where = request.get("where", f"request {number}")
            raise RequestError(f"{where} (adapter '{name}'): {error}") from error

    def _check(self, question: Question, arrays: Mapping[str, NumpyArray]) -> None:
        """Refuse what the encoder has no positions for, as Predictor does."""
        ahead = max(int(arrays["shift"]), len(arrays.get("front", ())))
        reach = ahead + max(len(example.token) for example in question.item.examples)
        if reach > self.positions:
            raise RequestError(
                f"an example reaches position {reach}, prompts and shift included; this encoder has "
                f"{self.positions}: truncate the text or shorten the prompt"
            )

    def _run(self, asked: Sequence[AskedExample], names: Sequence[str]) -> Iterator[NumpyArray]:
        """Yield the logits of each example, (C,), or of its words, (W, C)."""
        present = tuple(sorted({names[i] for i, _ in asked}))
        seated = self.seated  # as it is now: another thread may set it meanwhile
        if present != seated[0]:
            self.seated = seated = present, self._tables(present)
        shape = len(asked), max(len(example.token) for _, example in asked)
        rows = {name: numpy.full(shape, -1 if name == "slot" else 0, numpy.int64) for name in TOKEN_INPUTS}
        for at, (_, example) in enumerate(asked):
            count = len(example.token)
            rows["token"][at, :count], rows["segment"][at, :count] = example.token, example.segment
            rows["slot"][at, list(example.special)] = range(len(example.special))
            rows["mask"][at, :count] = 1
        seat = numpy.array([present.index(names[i]) for i, _ in asked], numpy.int64)
        feed = {**rows, **seated[1], "seat": seat}
        logits, of_tokens = self.session.run(list(OUTPUTS), feed)
        for at, (i, example) in enumerate(asked):
            reading = self.reading[names[i]]
            own = (
                of_tokens[at, list(example.word)] if KINDS[reading.kind].reads == READS_WORDS else logits[at]
            )
            yield own[..., : len(reading.labels) or 1]

    def _tables(self, present: Sequence[str]) -> dict[str, NumpyArray]:
        """Return the inputs of some adapters, each padded with zeros to the largest: (A, ..)."""
        own_of = {name: [self.arrays[one].get(name) for one in present] for name in self.inputs}
        size: dict[str, int] = {}  # by letter: an axis is as long in every input that has it
        for name, (axes, least, _) in self.inputs.items():
            for shape in (least, *(array.shape for array in own_of[name] if array is not None)):
                size |= {x: max(size.get(x, 0), length) for x, length in zip(axes, shape, strict=True)}
        tables = {}
        for name, (axes, _, kind) in self.inputs.items():
            own = own_of[name]
            table = numpy.zeros((len(own), *(size[letter] for letter in axes)), kind)
            for number, array in enumerate(own):
                if array is not None:
                    table[number, ...][tuple(slice(length) for length in array.shape)] = array
            tables[name] = table
        return tables


def _answer(parts: Sequence[NumpyArray], question: Question) -> NumpyArray:
    """Return what `say` takes: probabilities, or a score."""
    kind, answering = KINDS[question.reading.kind], question.item.answering
    if kind.reads in (READS_CHOICES, READS_WORDS):
        chance = _softmax(numpy.concatenate(parts))
        return chance if answering is None else chance[list(answering)]
    if not kind.has_labels:
        return parts[0][0]
    return 1 / (1 + numpy.exp(-parts[0])) if kind.activation == "sigmoid" else _softmax(parts[0])


def _softmax(logits: NumpyArray) -> NumpyArray:
    power = numpy.exp(logits - logits.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True)


def _batches(asked: Sequence[AskedExample], budget: int) -> Iterator[list[int]]:
    """Yield places of examples of similar length, at most `budget` tokens of padded rows or one example."""
    batch: list[int] = []
    longest = 0
    for place in sorted(range(len(asked)), key=lambda place: -len(asked[place][1].token)):
        if batch and longest * (len(batch) + 1) > budget:
            yield batch
            batch = []
        longest = longest if batch else len(asked[place][1].token)
        batch.append(place)
    if batch:
        yield batch


@dataclass(frozen=True)
class Manifest:
    """What export_onnx wrote of a graph and of its adapters."""

    inputs: Inputs
    positions: int  # of the encoder
    about: dict[str, dict[str, Any]]  # of each adapter
    reading: dict[str, Reading]


def _read_manifest(file: Path) -> Manifest:
    """Read what export_onnx wrote; its adapters name files of its own folder alone."""
    found = read_json(file, AdapterError)
    version = found.get("format_version") if isinstance(found, dict) else None
    if version != VERSION:
        raise AdapterError(
            f"{file}: format_version is {version!r:.40}; this softcue reads {VERSION}: export again"
        )
    try:
        adapters = {
            name: {key: about[key] for key in ADAPTER_FIELDS} for name, about in found["adapters"].items()
        }
        if any(Path(name).name != name for name in adapters):
            raise ValueError("an adapter's name is a path")
        reading = {
            name: Reading(**{**about["reading"], "labels": tuple(about["reading"]["labels"])})
            for name, about in adapters.items()
        }
        if not {one.kind for one in reading.values()} <= KINDS.keys():
            raise ValueError("an adapter's kind is unknown")
        inputs = {
            name: (str(axes), tuple(map(int, shape)), str(numpy.dtype(kind)))
            for name, (axes, shape, kind) in found["inputs"].items()
        }
        if any(len(axes) != len(shape) for axes, shape, _ in inputs.values()):
            raise ValueError("an input's shape is not of its axes")
        return Manifest(inputs, int(found["positions"]), adapters, reading)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AdapterError(f"{file}: is not as it was written ({error}); export again") from error


def _read_arrays(file: Path, inputs: Inputs) -> dict[str, NumpyArray]:
    """Read one adapter's arrays. Raises AdapterError for a damaged file, or one of another graph."""
    try:
        with (
            open_regular(file, AdapterError) as (descriptor, _),
            os.fdopen(descriptor, "rb", closefd=False) as data,
            numpy.load(data, allow_pickle=False) as stored,
        ):
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise AdapterError(f"{file}: cannot be read ({error}); export again") from error
    for name, array in arrays.items():
        axes, least, _ = inputs.get(name, ("", (), ""))
        fits = len(array.shape) == len(axes) and name in inputs
        if not fits or any(
            size != own
            for letter, size, own in zip(axes, least, array.shape, strict=True)
            if letter not in FREE
        ):
            raise AdapterError(f"{file}: {name} {array.shape} is no input of this graph; export again")
    if not arrays.keys() >= {*ALWAYS}:
        raise AdapterError(f"{file}: lacks arrays that every adapter has; export again")
    return arrays


def _session(file: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise RequestError("an ONNX graph needs onnxruntime: pip install 'softcue[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a type for each code of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AdapterError(f"{file}: is no sound graph ({reason}); export again") from error
