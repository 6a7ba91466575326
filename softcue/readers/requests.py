"""Requests: reads the rows of a file that are to be answered."""

import os
from pathlib import Path
from typing import Any

from softcue.errors import DataError
from softcue.kinds.values import Wrong
from softcue.readers.columns import Finder, Said, as_columns, unpacked
from softcue.readers.encoding import Encoding
from softcue.readers.records import Problems
from softcue.readers.stream import FORMATS, NAMELESS, UNTYPED

ADAPTER = "adapter"  # the key of a request that names its adapter


def read_requests(path: Path, said: Said | None, encoding: Encoding) -> list[dict[str, Any]]:
    """Return the rows of a file of any format as requests, in order; a label is not needed.

    said: the columns of our fields; None: the rows as they are, but for a column that would read as the name
    of an adapter. Raises DataError that lists what is wrong.
    """
    if not os.path.isfile(path):
        raise DataError(f"--file {path} is no file; expected one with the texts to answer")
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise DataError(f"--file {path} is of no known format; expected one of {', '.join(FORMATS)}")
    if said and suffix in NAMELESS:
        raise DataError(f"--file {path}: columns of {suffix} files go by place; column names do not apply")
    problems = Problems()
    finder = Finder(as_columns(said))
    found = []
    for line, row in FORMATS[suffix][0](path, problems, encoding.of(path)):
        where = f"{path.name}:{line}"
        try:
            own = finder.fields(row, where) if said else {k: v for k, v in row.items() if k != ADAPTER}
            found.append({**(unpacked(own) if suffix in UNTYPED else own), "where": where})
        except Wrong as error:
            problems.add(where, finder.named(str(error)))
    problems.check(str(path))
    if not found:
        raise DataError(f"--file {path} is empty; expected a row for each answer")
    return found
