"""Replies: what the OpenAPI document says of answers, and the parts that routes' declarations share."""

from typing import Any

from pydantic.json_schema import models_json_schema

from softcue.serving.wire import BODIES

_STRING, _NUMBER, _COUNT = {"type": "string"}, {"type": "number"}, {"type": "integer", "minimum": 0}
_BOOLEAN = {"type": "boolean"}
_REF = "#/components/schemas/{model}"


def ref(name: str) -> dict[str, Any]:
    """Return a reference to a schema of the document."""
    return {"$ref": _REF.format(model=name)}


def json_body(name: str, example: dict[str, Any]) -> dict[str, Any]:
    """Return what the document says of a body in JSON."""
    return {"application/json": {"schema": ref(name), "example": example}}


def listed(item: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a list."""
    return {"type": "array", "items": item}


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def schemas() -> dict[str, Any]:
    """Return the schemas of all bodies and answers, by name."""
    _, made = models_json_schema([(body, "validation") for body in BODIES], ref_template=_REF)
    return {**made["$defs"], **REPLIES}


_ENTRY: dict[str, Any] = {
    "name": _STRING,
    "version": _COUNT,
    "full_name": _STRING,
    "sha256": _STRING,
    "method": _STRING,
    "kind": _STRING,
    "labels": _COUNT,
    "size": _COUNT,
    "added": _NUMBER,
    "aliases": listed(_STRING),
}
_TENSOR = _object(
    {"name": _STRING, "datatype": _STRING, "shape": listed({"type": "integer"})}, data=listed({})
)
REPLIES: dict[str, Any] = {
    "Fault": _object({"error": _STRING, "error_type": _STRING}),
    "Label": _object({"label": _STRING, "score": _NUMBER}, index=_COUNT, unsure=_BOOLEAN),
    "Entity": _object(
        {"score": _NUMBER, "word": _STRING, "start": _COUNT, "end": _COUNT},
        entity_group=_STRING,
        entity=_STRING,
        unsure=_BOOLEAN,
    ),
    "Scored": listed({"anyOf": [ref("Label"), ref("Entity")]}),
    "Result": _object(
        {"adapter": _STRING, "kind": _STRING},
        label=_STRING,
        labels=listed(_STRING),
        score=_NUMBER,
        scores={"type": ["object", "array"]},
        value=_NUMBER,
        choice=_COUNT,
        entities=listed(ref("Entity")),
        tags=listed(_STRING),
        unsure=_BOOLEAN,
    ),
    "Predicted": {
        "anyOf": [ref("Scored"), listed(ref("Scored")), _object({"results": listed(ref("Result"))})]
    },
    "Piped": {"anyOf": [ref("Scored"), listed(ref("Scored"))]},
    "Classified": _object(
        {
            "id": _STRING,
            "object": {"const": "list"},
            "created": _COUNT,
            "model": _STRING,
            "data": listed(
                _object(
                    {"index": _COUNT, "label": _STRING, "probs": listed(_NUMBER), "num_classes": _COUNT},
                    unsure=_BOOLEAN,
                )
            ),
            "usage": _object({"prompt_tokens": _COUNT, "total_tokens": _COUNT, "completion_tokens": _COUNT}),
        }
    ),
    "Inferred": _object(
        {"model_name": _STRING, "model_version": _STRING, "outputs": listed(_TENSOR)}, id=_STRING
    ),
    "ModelFacts": _object(
        {
            "name": _STRING,
            "versions": listed(_STRING),
            "platform": _STRING,
            "inputs": listed(_TENSOR),
            "outputs": listed(_TENSOR),
        }
    ),
    "ModelReady": _object({"name": _STRING, "ready": _BOOLEAN}),
    "Adapter": _object(_ENTRY),
    "Adapters": _object(
        {"adapters": listed(ref("Adapter")), "next": {"type": ["string", "null"]}, "count": _COUNT}
    ),
    "Removed": _object({"removed": listed(ref("Adapter"))}),
    "Models": _object(
        {
            "object": {"const": "list"},
            "data": listed(
                _object({"id": _STRING, "object": _STRING, "created": _COUNT, "owned_by": _STRING})
            ),
            "has_more": {"type": "boolean"},
        }
    ),
    "Live": {"type": "object"},
}
