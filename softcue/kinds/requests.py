"""Requests: checks the inputs that they give."""

from collections.abc import Mapping, Sequence
from typing import Any

from softcue.errors import RequestError
from softcue.kinds.record import Parsed, Record

REQUEST_INPUTS = ("text", "text_pair", "choices", "tokens")


def check_inputs(request: Mapping[str, Any], wanted: Sequence[str]) -> None:
    """Raise RequestError unless a request gives exactly the wanted inputs, with the right types."""
    given = [name for name in REQUEST_INPUTS if request.get(name) is not None]
    if set(given) != set(wanted):
        raise RequestError(f"gives {', '.join(given) or 'no input'}; expected {' and '.join(wanted)}")
    for name in wanted:
        value = request[name]
        if name in ("text", "text_pair"):
            if not isinstance(value, str) or not value.strip():
                raise RequestError(f"{name} is {value!r:.60}; expected a text that is not empty")
        elif not (
            isinstance(value, list | tuple) and value and all(isinstance(v, str) and v.strip() for v in value)
        ):
            raise RequestError(f"{name} is {value!r:.60}; expected a list of texts, none of them empty")


def read_texts_of(request: Mapping[str, Any], pair: bool) -> Parsed:
    """Read a request with one text, or with two. Raises RequestError."""
    check_inputs(request, ("text", "text_pair") if pair else ("text",))
    return Parsed(Record(text=request["text"], pair=request.get("text_pair")), request["text"])
