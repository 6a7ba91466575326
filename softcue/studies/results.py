"""Results: tables that a command writes at its end, over those of an earlier run and over
nobody else's files.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from softcue.errors import RequestError, WriteError
from softcue.files import check_file, parse_json, read_bytes

LARGEST_TABLE = 2**30  # bytes of a table's JSON


def check_results(folder: Path, names: Sequence[str], keys: Sequence[str]) -> None:
    """Refuse, before any work, a folder with files of these names that softcue did not write.

    Raises RequestError.

    The first is the JSON that is written before the others: where it has these keys it is ours, and so are
    they.
    """
    there = [name for name in names if os.path.lexists(folder / name)]
    if there and not _ours(folder / names[0], keys):
        raise WriteError(
            f"{folder} holds {', '.join(there)}, which softcue did not write; give another folder, or move "
            "that away"
        )
    for name in there:
        check_file(folder / name)


def _ours(file: Path, keys: Sequence[str]) -> bool:
    try:
        found = parse_json(read_bytes(file, RequestError, LARGEST_TABLE))
    except (RequestError, ValueError):
        return False
    return isinstance(found, dict) and set(keys) <= set(found)
