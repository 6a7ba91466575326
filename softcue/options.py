"""Options: what every method's config has in common - types, ranges and one message for all that is wrong."""

import math
import operator
import sys
from collections.abc import Callable
from dataclasses import field, fields
from functools import lru_cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from softcue.errors import SettingsError, short

LARGEST_OPTION = 2**53  # of a whole number: beyond it not every one is a number with a fraction too
LONGEST_PREFIX = 4_097  # tokens of a prefix or prompt, less than: beyond it pairs of them fill the memory
OPTION_TYPES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    type(None): "nothing",
}
hints_of: Callable[[Any], dict[str, Any]] = lru_cache(maxsize=256)(
    get_type_hints
)  # of a dataclass; they are slow to find


@lru_cache(maxsize=256)
def hint_parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the origin and the arguments of a type, as typing finds them, but quicker.

    Unions of the same types in another order count as the same.
    """
    return get_origin(hint), get_args(hint)


def setting(default: Any, least: float | None = None, below: float | None = None) -> Any:
    """Make a config field with a range, least <= value < below."""
    return field(default=default, metadata={"least": least, "below": below})


def per_seat_setting(default: float, least: float | None = None, below: float | None = None) -> Any:
    """Make a config field that changes no shape.

    Adapters that differ in it share one cue, which has a buffer of its values over seats.
    """
    return field(default=default, metadata={"least": least, "below": below, "per_seat": True})


class Options:
    """Base of config dataclasses.

    Lists become tuples, and a wrong type or range is a SettingsError that names them all.
    """

    def problems(self) -> list[str]:
        """Say what is wrong across fields; overridden where fields depend on each other."""
        return []

    def __post_init__(self) -> None:
        hints, wrong = hints_of(type(self)), []
        for f in fields(self):  # type: ignore[arg-type]
            value = _tuples(getattr(self, f.name))
            object.__setattr__(self, f.name, value)  # frozen, and JSON and TOML have no tuples
            expected = _expected(value, hints[f.name], f.metadata.get("least"), f.metadata.get("below"))
            if expected:
                wrong.append(f"{f.name} is {shortened(value)}; expected {expected}")
        wrong = wrong or self.problems()
        if wrong:
            raise SettingsError(f"{type(self).__name__}: " + "; ".join(wrong))


def is_finite(value: Any) -> bool:
    """Say whether it is a number, neither infinite nor too large for one with a fraction."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    # a comparison: converting a whole number of 400 digits is an error
    return abs(value) <= sys.float_info.max


def shortened(value: Any) -> str:
    """Return a setting's value as a message shows it.

    Python refuses to write out whole numbers of thousands of digits.
    """
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return f"a whole number of about {round(value.bit_length() * math.log10(2)):,} digits"
    return short(value)


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return a whole number, of any integer type, from least to most. Raises RequestError."""
    try:
        number = operator.index(value)
    except TypeError:
        raise SettingsError(f"{name} {short(value)} came; expected a whole number") from None
    if number < least or (most is not None and number > most):
        shown = f"{number:,}" if abs(number) < LARGEST_OPTION else shortened(number)
        expected = f"at least {least:,}" if most is None else f"{least:,} to {most:,}"
        raise SettingsError(f"{name} {shown} came; expected {expected}")
    return number


def check_list(name: str, value: Any) -> list[Any]:
    """Return a list of what came as a list or tuple; RequestError for one text or anything else."""
    if not isinstance(value, list | tuple):
        raise SettingsError(f"{name} is a {type(value).__name__} ({short(value)}); expected a list")
    return list(value)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _expected(value: Any, hint: Any, least: float | None, below: float | None) -> str | None:
    """Return what was expected instead of `value`, or None where it will do."""
    if not _fits(value, hint):
        return _say(hint)
    if isinstance(value, int) and abs(value) > LARGEST_OPTION:
        return f"a whole number up to {LARGEST_OPTION:,}"
    if least is not None and value is not None and value < least:
        return f"at least {least:g}"
    if below is not None and value is not None and value >= below:
        return f"less than {below:g}"
    return None


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = hint_parts(hint)
    if origin is Literal:
        return value in arguments
    if origin in (UnionType, Union):
        return any(_fits(value, h) for h in arguments)
    if origin is dict:
        key, own = arguments
        return isinstance(value, dict) and all(_fits(k, key) and _fits(v, own) for k, v in value.items())
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(v, arguments[0]) for v in value)
    if hint is float:
        return is_finite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _say(hint: Any) -> str:
    """Return a type in words."""
    origin, arguments = hint_parts(hint)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (UnionType, Union):
        return " or ".join(map(_say, arguments))
    if origin is dict:
        key, own = map(_say, arguments)
        return f"an object that gives {own} for {key}"
    if origin is tuple:
        return f"a list of {_say(arguments[0])}"
    return OPTION_TYPES[hint]
