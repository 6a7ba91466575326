"""Wire: the bodies of requests, checked, and the rows that they ask about."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from softcue.errors import RequestError, short
from softcue.serving.body import Limits
from softcue.serving.faults import body_fault

RowInputs = dict[str, Any]  # one request to the service, without its adapter
_Model = TypeVar("_Model", bound="Body")

OWN_KEYS = ("adapter", "where")  # what the service reads of a row beside its inputs
_TEXT: dict[str, Any] = {"type": "string", "pattern": "\\S"}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT, "minItems": 1}
_OBJECT: dict[str, Any] = {
    "type": "object",
    "description": "What the adapter's kind reads, or the published fields of its benchmark.",
    "properties": {"text": _TEXT, "text_pair": _TEXT, "choices": _TEXTS, "tokens": _TEXTS},
    "minProperties": 1,
}
_ROW: dict[str, Any] = {
    "anyOf": [{**_TEXTS, "maxItems": 2, "description": "A text, or a pair of texts."}, _OBJECT]
}
# what /predict reads: a text, a pair, an object, or a batch of them
INPUTS: dict[str, Any] = {
    "description": 'A text, a pair of texts, an object, or a batch of them: [["a text"], ["one", "two"]].',
    "anyOf": [_TEXT, *_ROW["anyOf"], {"type": "array", "items": _ROW, "minItems": 1}],
}
# what the Hugging Face shapes read: there a flat list is a batch
PLAIN_INPUTS = {
    "anyOf": [_TEXT, _OBJECT, {"type": "array", "items": {"anyOf": [_TEXT, _OBJECT]}, "minItems": 1}]
}


class Body(BaseModel):
    """A body whose types are taken as they come: no number is read as a text."""

    model_config = ConfigDict(strict=True, frozen=True)


class PredictBody(Body):
    """text-embeddings-inference's request, with an adapter for all rows, one per row, or several for one."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    inputs: Annotated[Any, WithJsonSchema(INPUTS)]
    adapter: str | list[str] | None = Field(default=None, description="One for all rows, or one for each.")
    adapters: list[str] | None = Field(default=None, min_length=1, description="Several tasks for one text.")
    truncate: bool | None = Field(
        default=None, description="Refuse texts beyond the adapter's limit where false."
    )
    truncation_direction: Literal["right", "Right"] | None = None
    raw_scores: bool | None = Field(default=None, description="Logarithms instead of probabilities.")


class PipelineParameters(Body):
    """What Hugging Face's clients may set."""

    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = None
    top_k: int | None = Field(default=None, ge=1)
    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = None
    ignore_labels: list[str] | None = None
    stride: int | None = Field(default=None, description="Long texts are cut into windows without it.")


class PipelineBody(Body):
    """Hugging Face Inference's request for texts to classify or to tag."""

    inputs: Annotated[Any, WithJsonSchema(PLAIN_INPUTS)]
    parameters: PipelineParameters | None = None
    adapter: str | None = None


class ClassifyBody(Body):
    """vLLM's request to classify; the model is an adapter."""

    model: str
    input: str | list[str]


class TensorBody(Body):
    """An input of the Open Inference Protocol."""

    name: Literal["text", "text_pair"]
    shape: list[int]
    datatype: Literal["BYTES"]
    data: list[str]


class InferBody(Body):
    """The Open Inference Protocol's (KServe v2) request."""

    id: str | None = None
    inputs: list[TensorBody] = Field(min_length=1, max_length=2)


class AliasBody(Body):
    """The version that an alias is to stand for."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    version: int = Field(ge=1, le=10**12)


BODIES: tuple[type[Body], ...] = (PredictBody, PipelineBody, ClassifyBody, InferBody, AliasBody)


def parse_body(model: type[_Model], data: bytes) -> _Model:
    """Return a body of the model. Raises RequestError that says what is wrong where."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise body_fault(error) from None


def read_inputs(inputs: Any, limits: Limits) -> tuple[list[RowInputs], bool]:
    """Return the rows of text-embeddings-inference's inputs, and whether they are a batch.

    A flat list of two texts is a pair. Raises RequestError.
    """
    if not isinstance(inputs, list):
        return [_row(inputs, "inputs")], False
    if all(isinstance(part, str) for part in inputs):
        if len(inputs) > 2:
            raise RequestError(
                f"inputs is a flat list of {len(inputs):,} texts; expected one text, two for a pair, or a "
                'batch as in [["one"], ["another"]]'
            )
        return [_row(inputs, "inputs")], False
    _check_count("inputs", len(inputs), limits)
    for number, part in enumerate(inputs):
        if isinstance(part, str):
            raise RequestError(
                f"inputs[{number}] is a text beside lists; expected all of a batch as lists: [{short(part)}]"
            )
    return [_row(part, f"inputs[{number}]") for number, part in enumerate(inputs)], True


def read_plain_inputs(inputs: Any, limits: Limits) -> tuple[list[RowInputs], bool]:
    """Return the rows of Hugging Face's inputs, where a flat list is a batch, and whether they are one."""
    if not isinstance(inputs, list):
        return [_row(inputs, "inputs")], False
    _check_count("inputs", len(inputs), limits)
    return [
        _row(part if isinstance(part, dict) else [part], f"inputs[{number}]")
        for number, part in enumerate(inputs)
    ], True


def read_texts(texts: str | list[str], limits: Limits) -> list[RowInputs]:
    """Return the rows of a text or of several."""
    if isinstance(texts, str):
        return [{"text": texts}]
    _check_count("input", len(texts), limits)
    return [{"text": text} for text in texts]


def read_tensors_of_text(body: InferBody, limits: Limits) -> list[RowInputs]:
    """Return the rows of the Open Inference Protocol's inputs. Raises RequestError."""
    columns: dict[str, list[str]] = {}
    for tensor in body.inputs:
        _check_count(f"the tensor {tensor.name!r}", len(tensor.data), limits)
        if tensor.shape not in ([len(tensor.data)], [len(tensor.data), 1]):
            raise RequestError(
                f"the tensor {tensor.name!r} has shape {short(tensor.shape)} and {len(tensor.data):,} texts; "
                f"expected shape [{len(tensor.data)}]"
            )
        columns[tensor.name] = tensor.data
    if "text" not in columns or len(columns) != len(body.inputs):
        raise RequestError("inputs holds no tensor 'text', or one twice; expected it once")
    if len({len(column) for column in columns.values()}) > 1:
        raise RequestError("the tensors 'text' and 'text_pair' are not of one length")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def name_rows(rows: list[RowInputs], adapter: str | list[str]) -> list[RowInputs]:
    """Return the rows with the adapter that each is for. Raises RequestError."""
    names = adapter if isinstance(adapter, list) else [adapter] * len(rows)
    if len(names) != len(rows):
        raise RequestError(
            f"adapter holds {len(names):,} names for {len(rows):,} rows; expected one for each"
        )
    return [{**row, "adapter": name} for row, name in zip(rows, names, strict=True)]


def _row(part: Any, where: str) -> RowInputs:
    """Return what one input says: a text, a list with one text or two, or an object."""
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, list) and len(part) in (1, 2) and all(isinstance(text, str) for text in part):
        return dict(zip(("text", "text_pair"), part, strict=False))
    if isinstance(part, Mapping) and part and not any(key in part for key in OWN_KEYS):
        return dict(part)
    raise RequestError(
        f"{where} is {short(part)}; expected a text, a list of one text or two, or an object with text, "
        "text_pair, choices or tokens"
    )


def _check_count(what: str, count: int, limits: Limits) -> None:
    if not 0 < count <= limits.rows:
        raise RequestError(f"{what} holds {count:,} rows; expected at least 1 and at most {limits.rows:,}")
