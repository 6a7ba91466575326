"""Opens adapters at a path, which may be a bank, a folder of adapter folders, or a single adapter."""

import os
from pathlib import Path

from softcue.adapter.folder import HEADER
from softcue.adapter.remote import is_remote, local_folder, own_name
from softcue.bank.bank import INDEX, Bank
from softcue.bank.entry import NAME, NAME_RULE
from softcue.bank.folders import AdapterFolders
from softcue.bank.source import Source
from softcue.errors import RequestError
from softcue.files import as_path, recover, resolve
from softcue.files.read import reason

EXPECTED = f"expected a bank, a folder of adapter folders, or an adapter's folder (with {HEADER})"


def open_source(path: str | Path) -> Source:
    """Open a bank, a folder of adapter folders, or a single adapter, all with the same interface.

    path: the path of one of these, or hf:OWNER/NAME for a single adapter. An empty folder counts as a folder
    without adapters. Raises RequestError for anything else, and AdapterError if a repository cannot be
    downloaded.
    """
    place = as_path("the source of adapters", path)
    if is_remote(place):
        return AdapterFolders(folder := local_folder(place), only=own_name(place), at=folder)
    recover(place)
    if not place.is_dir():
        what = "is a file" if place.exists() else "does not exist"
        raise RequestError(f"{place} {what}; {EXPECTED}")
    if (place / INDEX).is_file():
        return Bank(place)
    if (place / HEADER).is_file():
        whole = resolve(place)
        if not NAME.fullmatch(whole.name):
            raise RequestError(
                f"the name of the folder {place} cannot be an adapter's name; expected {NAME_RULE}"
            )
        return AdapterFolders(whole.parent, only=whole.name)
    try:
        names = os.listdir(place)
    except OSError as error:
        raise RequestError(f"{place} cannot be read: {reason(error)}; {EXPECTED}") from error
    folders = AdapterFolders(place)
    if names and not folders.count():
        raise RequestError(f"{place} has no adapters, but it has {min(names)!r}; {EXPECTED}")
    return folders
