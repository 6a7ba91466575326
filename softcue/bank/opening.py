"""Opening whatever a path holds adapters in: a bank, a folder of adapter folders, or one adapter."""

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
    """Return the adapters of a bank, of a folder of adapter folders, or of a single adapter's folder.

    path: that, or hf:OWNER/NAME for a single adapter. An empty folder is one of no adapters yet. Raises
    RequestError for anything else, and AdapterError for a repository that cannot be had.
    """
    place = as_path("the source of adapters", path)
    if is_remote(place):
        return AdapterFolders(folder := local_folder(place), only=own_name(place), at=folder)
    recover(place)
    if not place.is_dir():
        what = "is a file" if place.exists() else "is not there"
        raise RequestError(f"{place} {what}; {EXPECTED}")
    if (place / INDEX).is_file():
        return Bank(place)
    if (place / HEADER).is_file():
        whole = resolve(place)
        if not NAME.fullmatch(whole.name):
            raise RequestError(
                f"{place} cannot give its adapter a name; expected a folder's name of {NAME_RULE}"
            )
        return AdapterFolders(whole.parent, only=whole.name)
    try:
        names = os.listdir(place)
    except OSError as error:
        raise RequestError(f"{place} cannot be read: {reason(error)}; {EXPECTED}") from error
    folders = AdapterFolders(place)
    if names and not folders.count():
        raise RequestError(f"{place} holds no adapters ({min(names)!r} is none); {EXPECTED}")
    return folders
