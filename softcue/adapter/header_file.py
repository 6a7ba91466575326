"""An adapter's header, read without its tensors."""

from pathlib import Path

from softcue.adapter.folder import HEADER, naming
from softcue.adapter.header import CONFIG_LIMIT, parse_header
from softcue.adapter.remote import read_in_place
from softcue.adapter.store import Adapter
from softcue.errors import AdapterError
from softcue.files import read_bytes


def load_header(folder: str | Path) -> Adapter:
    """Read an adapter's header from a folder or hf:OWNER/NAME, as an adapter without tensors.

    Raises AdapterError as Adapter.load does.
    """
    return read_in_place(folder, lambda place: read_header(place)[0])


def read_header(place: Path) -> tuple[Adapter, bytes]:
    """Return an adapter without tensors, and the bytes of its header. Raises AdapterError."""
    with naming(str(place / HEADER)):
        data = read_bytes(place / HEADER, AdapterError, CONFIG_LIMIT)
        values, _ = parse_header(Adapter, data)
    return Adapter(**values, cue={}, head={}), data
