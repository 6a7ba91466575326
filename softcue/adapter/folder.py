"""An adapter's folder: finds which of its files softcue wrote, so that no other file is overwritten."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from softcue.adapter.card import CARD, is_own_card
from softcue.adapter.header import CONFIG_LIMIT, OWN_ENCODER, is_ours
from softcue.encoder.load import SAVED
from softcue.errors import AdapterError, WriteError
from softcue.files import check_folder, parse_json, read_bytes

HEADER, TENSORS = "adapter_config.json", "adapter_model.safetensors"
SHOWN_FILES = 5  # names in a message


def check_place(folder: str | Path) -> Path:
    """Raise RequestError for a folder that Adapter.save and Checkpoint.save would refuse later."""
    return check_folder(folder, refuse_foreign)


def refuse_foreign(folder: Path) -> None:
    """Raise RequestError if a folder has any file that is not part of an adapter that softcue wrote.

    A fine-tuned checkpoint that softcue wrote counts as an adapter.
    """
    others = foreign(folder)
    if others:
        named = ", ".join(others[:SHOWN_FILES])
        if len(others) > SHOWN_FILES:
            named += f" and {len(others) - SHOWN_FILES} more"
        raise WriteError(
            f"{folder} has files that are not a softcue adapter's ({named!r}); give another folder, or move "
            "them away"
        )


@contextlib.contextmanager
def naming(place: str) -> Iterator[None]:
    """Put the folder's or file's name in front of an error's message, unless it is there already."""
    try:
        yield
    except AdapterError as error:
        text = str(error)
        raise AdapterError(text if text.startswith(f"{place}: ") else f"{place}: {text}") from error
    except OSError as error:
        raise AdapterError(f"{place}: cannot be read: {error.strerror or error}") from error


def foreign(folder: Path) -> list[str]:
    """Return the relative paths of the files in a folder that softcue did not write.

    If the header is not softcue's, these are all files in the folder.
    """
    own = _own(folder)
    return sorted(name for name in _entries(folder, "", own) if name not in own)


def _own(folder: Path) -> set[str]:
    """Return the files and folders that softcue wrote in a folder; folders end in a slash."""
    try:
        header = parse_json(read_bytes(folder / HEADER, AdapterError, CONFIG_LIMIT))
    except (AdapterError, ValueError):
        return set()
    if not is_ours(header):
        return set()
    try:
        has_card = is_own_card(read_bytes(folder / CARD, AdapterError))
    except AdapterError:
        has_card = False
    return own_files(header) | ({CARD} if has_card else set())


def own_files(header: Mapping[str, Any]) -> set[str]:
    """Return the files and folders that softcue writes with a header; folders end in a slash."""
    if header.get("tuned") != "full":
        return {HEADER, TENSORS}
    files = {os.path.normpath(os.path.join(OWN_ENCODER, name)) for name in SAVED}
    folders = {f"{os.path.dirname(file)}/" for file in files}
    return {HEADER, TENSORS} | files | folders


def own_paths(folder: Path) -> dict[str, Path]:
    """Return the files of the adapter in a folder, by their paths in it. Raises AdapterError."""
    try:
        header = parse_json(read_bytes(folder / HEADER, AdapterError, CONFIG_LIMIT))
    except ValueError as error:
        raise AdapterError(f"{folder / HEADER}: {error}") from error
    named = own_files(header) if is_ours(header) else set()
    return {name: folder / name for name in sorted(named) if (folder / name).is_file()}


def copy_own(folder: Path, into: Path) -> None:
    """Copy an adapter's files to a new folder, with the encoder's files of a fine-tuned checkpoint."""
    for name, path in own_paths(folder).items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, into / name)


def _entries(folder: Path, above: str, own: set[str]) -> Iterator[str]:
    """Yield the paths in a folder, and in those of its folders that softcue wrote."""
    with os.scandir(folder) as entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            name = above + entry.name + ("/" if is_folder else "")
            yield name
            if is_folder and name in own:
                yield from _entries(Path(entry.path), name, own)
