"""The error tree: one root, and one child for each thing of the user's that can be wrong; and
text of others made visible.
"""

import re

# Control characters but for tab and newline, and those that turn the direction of text: they steer whoever
# shows them.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class SoftcueError(Exception):
    """Anything softcue refuses; the message says what came, what was expected and what to do."""


class BatchError(SoftcueError):
    """Examples that cannot be packed together, or not for the adapters that they name."""


class BackboneError(SoftcueError):
    """An encoder or tokenizer that is absent, incomplete or of an unknown family."""


class AdapterError(SoftcueError):
    """An adapter that is damaged, of another format, or of another backbone."""


class RequestError(SoftcueError):
    """A request, a flag or something that they name that is not as it must be; children say what."""


class UnknownAdapterError(RequestError):
    """An adapter, a version or an alias that is not there."""


class BusyError(SoftcueError):
    """A request that the queue has no room for; `retry_after` says in how many seconds it may have."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineError(SoftcueError):
    """A request that was not answered within its time."""


class ClosingError(SoftcueError):
    """A request that came when the server was shutting down."""


class DataError(RequestError):
    """Data that cannot be read, or do not say what their kind must say."""


class SettingsError(RequestError):
    """A setting of a method, of training or of a sweep that is unknown, of a wrong type or out of range."""


class WriteError(RequestError):
    """A file or folder that cannot be written: the disk's fault, or something of others' stands there."""


class DivergedError(RequestError):
    """Training whose loss was no finite number before it was ever scored."""


def visible(text: object) -> str:
    """Return text with what would steer a terminal as escapes, as in \\u001b.

    So text from files and requests can be printed.

    Tabs and newlines stay. What is JSON stays the same JSON.
    """
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def one_line(text: object) -> str:
    """Return text as `visible` does, on one line."""
    return visible(text).replace("\n", "\\n")


def short(value: object) -> str:
    """Return `value` for a message: quoted, and cut where it is long."""
    try:
        text = one_line(repr(value))  # tables are shown on several
    except ValueError:  # Python refuses to write out whole numbers of more than 4,300 digits
        return "a whole number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
