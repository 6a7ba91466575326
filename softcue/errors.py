"""The exceptions that softcue raises, and functions that make foreign text safe to print.

Every exception is a SoftcueError. Its message says what came, what was expected and what to do.
"""

import re

# All control characters except tab and newline, and those that change the direction of text: a terminal
# would obey them.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class SoftcueError(Exception):
    """The base class of all exceptions of softcue."""


class BatchError(SoftcueError):
    """Examples cannot be packed into one batch, or do not fit their adapters."""


class BackboneError(SoftcueError):
    """An encoder or tokenizer is absent, incomplete or of an unknown family."""


class AdapterError(SoftcueError):
    """An adapter is damaged, has another format, or was trained for another backbone."""


class RequestError(SoftcueError):
    """A request, an argument or a flag is wrong, or something that it names; subclasses say which."""


class UnknownAdapterError(RequestError):
    """An adapter, a version or an alias does not exist."""


class BusyError(SoftcueError):
    """The queue has no room for a request; `retry_after` says after how many seconds to try again."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineError(SoftcueError):
    """A request was not answered in time."""


class ClosingError(SoftcueError):
    """A request came while the server was shutting down."""


class DataError(RequestError):
    """Data cannot be read, or lack what their kind of task needs."""


class SettingsError(RequestError):
    """A setting of a method, of training or of a sweep is unknown, has a wrong type or is out of range."""


class WriteError(RequestError):
    """A file or folder cannot be written, because of the disk or because it has files of other programs."""


class DivergedError(RequestError):
    """The loss of a training became infinite or NaN before the first evaluation."""


def visible(text: object) -> str:
    """Return text in which control characters are written as escapes, such as \\u001b.

    Text from files and requests is then safe to print. Tabs and newlines stay. JSON keeps its meaning.
    """
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def one_line(text: object) -> str:
    """Return text as `visible` does, with newlines escaped too."""
    return visible(text).replace("\n", "\\n")


def short(value: object) -> str:
    """Return a value for a message: quoted, and cut to 60 characters."""
    try:
        text = one_line(repr(value))  # a table's text has several lines
    except ValueError:  # Python refuses to print whole numbers of more than 4,300 digits
        return "a whole number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
