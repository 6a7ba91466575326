"""JSON values, and the frozen dataclasses that they stand for.

Every field must be there, of its own type, and no other field.
"""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union

from softcue.errors import AdapterError
from softcue.options import hint_parts, hints_of

JSON_TYPES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    NoneType: "null",
}
DEEPEST = 16  # levels of lists and objects that a field may hold
LARGEST_STORED = 2**63  # of whole numbers


def encode(value: Any, where: str, depth: int = DEEPEST) -> Any:
    """Return what JSON holds in place of `value`.

    Dataclasses become objects, tuples become lists, and NaN and infinities become null. Raises AdapterError
    that names `where` for what JSON cannot hold.
    """
    if depth == 0:
        raise AdapterError(f"{where} is nested too deeply; expected at most {DEEPEST} levels")
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [encode(v, f"{where}[{i}]", depth - 1) for i, v in enumerate(value)]
    if is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in fields(value)}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise AdapterError(
            f"{where} is {_show(value)}; expected numbers, strings, lists and objects with string keys"
        )
    return {name: encode(v, f"{where}.{name}", depth - 1) for name, v in value.items()}


def decode_record(cls: type, value: Any, where: str) -> Any:
    """Return a JSON object as the dataclass `cls`."""
    hints = hints_of(cls)
    names = [f.name for f in fields(cls)]
    value = check_fields(value, names, where)
    found = {name: decode(hints[name], value[name], f"{where}.{name}") for name in names}
    return cls(**found)


def check_fields(value: Any, expected: list[str], where: str) -> dict[str, Any]:
    """Return a JSON object if it has the expected names and no others, or raise AdapterError."""
    if not isinstance(value, dict):
        raise AdapterError(f"{where} is {_show(value)}; expected an object")
    wrong = [f"{name} is missing" for name in expected if name not in value]
    wrong += [f"{_show(name)} is not known" for name in value if name not in expected]
    if wrong:
        raise AdapterError(f"{where}: {', '.join(wrong[:8])}; expected {', '.join(expected) or 'no fields'}")
    return value


def decode(hint: Any, value: Any, where: str) -> Any:
    """Return a JSON value as what the type `hint` asks for: lists become tuples, objects dataclasses.

    Raises AdapterError that names `where` for a value of another type.
    """
    if type(value) is hint and hint in (str, bool, float):  # the most of them, labels above all
        return value
    origin, arguments = hint_parts(hint)
    if origin in (Union, UnionType):
        found = [h for h in arguments if _may_be(h, value)]
        if found:
            return decode(found[0], value, where)
    elif origin is tuple:
        if isinstance(value, list) and arguments == (str, ...) and {*map(type, value)} <= {str}:
            return tuple(value)  # labels, which may be many
        if isinstance(value, list) and (arguments[-1] is Ellipsis or len(arguments) == len(value)):
            hints = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
            pairs = enumerate(zip(hints, value, strict=True))
            return tuple(decode(h, v, f"{where}[{i}]") for i, (h, v) in pairs)
    elif origin is Literal:
        if any(type(value) is type(a) and value == a for a in arguments):
            return value
    elif origin is not None and issubclass(origin, Mapping):
        if isinstance(value, dict):
            encode(value, where)
            return value
    elif is_dataclass(hint):
        assert isinstance(hint, type)
        return decode_record(hint, value, where)
    elif type(value) is hint or (hint is float and type(value) is int):
        if isinstance(value, int) and not -LARGEST_STORED <= value < LARGEST_STORED:
            raise AdapterError(f"{where} is {_show(value)}; expected a number of 64 bits")
        return value
    raise AdapterError(f"{where} is {_show(value)}; expected {_say(hint)}")


def largest(value: Any) -> int:
    """Return the largest magnitude among the whole numbers in a config; true and false are none."""
    if isinstance(value, tuple):
        return max(map(largest, value), default=0)
    return abs(value) if type(value) is int else 0


def first_line(error: Exception) -> str:
    """Return an error's first line, shortened, however much of a hostile file it quotes."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _may_be(hint: Any, value: Any) -> bool:
    """Say whether a value is of the JSON type that a member of a union stands for."""
    origin, arguments = hint_parts(hint)
    if origin is tuple:
        return isinstance(value, list)
    if origin is Literal:
        return value in arguments
    return type(value) is hint or (hint is float and type(value) is int)


def _say(hint: Any) -> str:
    origin, arguments = hint_parts(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(_say, arguments))
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"a list of {_say(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)}"
    return JSON_TYPES.get(hint, "an object")


def _show(value: Any) -> str:
    """Describe a value in a few words, whatever its size."""
    if isinstance(value, int) and abs(value) >= LARGEST_STORED:
        return "a huge number"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:60] + "...")
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return f"a {type(value).__name__}"
