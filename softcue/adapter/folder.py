"""An adapter's folder: what in it softcue wrote, so that writing over it takes nothing that is
anybody else's.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from softcue.adapter.header import CONFIG_LIMIT, OWN_ENCODER, is_ours
from softcue.encoder.load import SAVED
from softcue.errors import AdapterError, WriteError
from softcue.files import check_folder, parse_json, read_bytes

HEADER, TENSORS = "adapter_config.json", "adapter_model.safetensors"
SHOWN_FILES = 5  # names in a message


def check_place(folder: str | Path) -> Path:
    """Refuse, before any work, a folder that Adapter.save and Checkpoint.save would refuse after.

    Raises RequestError.
    """
    return check_folder(folder, refuse_foreign)


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds anything but an adapter or a fine-tuned checkpoint of softcue's."""
    others = foreign(folder)
    if others:
        named = ", ".join(others[:SHOWN_FILES]) + (
            f" and {len(others) - SHOWN_FILES} more" if len(others) > SHOWN_FILES else ""
        )
        raise WriteError(
            f"{folder} is a folder that holds something else than an adapter of softcue's ({named!r}); give "
            "another, or move that away"
        )


def foreign(folder: Path) -> list[str]:
    """Return what a folder holds that softcue did not write, by relative path.

    Where the header is not softcue's, that is all of it.
    """
    own = _own(folder)
    return sorted(name for name in _entries(folder, "", own) if name not in own)


def _own(folder: Path) -> set[str]:
    """Return what softcue writes where there is such a header; folders end in a slash."""
    try:
        header = parse_json(read_bytes(folder / HEADER, AdapterError, CONFIG_LIMIT))
    except (AdapterError, ValueError):
        return set()
    if not is_ours(header):
        return set()
    if header.get("tuned") != "full":
        return {HEADER, TENSORS}
    encoder = {os.path.normpath(os.path.join(OWN_ENCODER, name)) for name in SAVED}
    return {HEADER, TENSORS, *encoder, *(f"{os.path.dirname(name)}/" for name in encoder)}


def _entries(folder: Path, above: str, own: set[str]) -> Iterator[str]:
    """Yield the paths of what is in a folder.

    Of folders in it, only those that are softcue's own are looked into.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            name = above + entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
            yield name
            if name in own and name.endswith("/"):
                yield from _entries(Path(entry.path), name, own)
