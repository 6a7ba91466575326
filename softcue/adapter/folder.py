"""An adapter's folder: which of its files softcue wrote, so that no other file is overwritten."""

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
    """Refuse, before any work, a folder that Adapter.save and Checkpoint.save would refuse later.

    Raises RequestError.
    """
    return check_folder(folder, refuse_foreign)


def refuse_foreign(folder: Path) -> None:
    """Raise RequestError if a folder holds anything that is not of an adapter that softcue wrote.

    A fine-tuned checkpoint that softcue wrote is an adapter, too.
    """
    others = foreign(folder)
    if others:
        named = ", ".join(others[:SHOWN_FILES])
        if len(others) > SHOWN_FILES:
            named += f" and {len(others) - SHOWN_FILES} more"
        raise WriteError(
            f"{folder} is a folder that holds something else than an adapter of softcue's ({named!r}); give "
            "another, or move that away"
        )


def foreign(folder: Path) -> list[str]:
    """Return the relative paths of what a folder holds that softcue did not write.

    If the header is not softcue's, that is everything in the folder.
    """
    own = _own(folder)
    return sorted(name for name in _entries(folder, "", own) if name not in own)


def _own(folder: Path) -> set[str]:
    """Return the files and folders that softcue writes beside such a header; folders end in a slash."""
    try:
        header = parse_json(read_bytes(folder / HEADER, AdapterError, CONFIG_LIMIT))
    except (AdapterError, ValueError):
        return set()
    if not is_ours(header):
        return set()
    if header.get("tuned") != "full":
        return {HEADER, TENSORS}
    files = {os.path.normpath(os.path.join(OWN_ENCODER, name)) for name in SAVED}
    folders = {f"{os.path.dirname(file)}/" for file in files}
    return {HEADER, TENSORS} | files | folders


def _entries(folder: Path, above: str, own: set[str]) -> Iterator[str]:
    """Yield the paths of what is in a folder, and in those folders in it that are softcue's own."""
    with os.scandir(folder) as entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            name = above + entry.name + ("/" if is_folder else "")
            yield name
            if is_folder and name in own:
                yield from _entries(Path(entry.path), name, own)
