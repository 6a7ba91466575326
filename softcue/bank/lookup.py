"""Queries of a bank's index; each reads only a few rows, also in a large bank."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from softcue.bank.entry import Entry, split_name
from softcue.bank.slabs import Spot
from softcue.errors import UnknownAdapterError

ENTRY = """v.name, v.version, v.sha256, v.method, v.kind, v.labels, v.size, v.added,
    (SELECT group_concat(a.alias) FROM aliases AS a WHERE a.name = v.name AND a.version = v.version)"""
ONE = f"SELECT {ENTRY} FROM versions AS v WHERE v.name = ? AND v.version = "
NEWEST = "(SELECT newest FROM names WHERE name = ?)"
ALIASED = "(SELECT version FROM aliases WHERE name = ? AND alias = ?)"
# CROSS JOIN: SQLite then reads the tables in this order, so names come sorted and only a few are read
NEXT = f"""SELECT {ENTRY} FROM names AS n CROSS JOIN versions AS v ON v.name = n.name AND v.version = n.newest
    WHERE n.name > ? AND instr(lower(n.name), ?) > 0 ORDER BY n.name LIMIT ?"""


def look_up(index: sqlite3.Connection, asked: str) -> Entry:
    """Return the entry of "spam", "spam@3" or "spam@prod". Raises UnknownAdapterError."""
    name, which = split_name(asked)
    if which is None:
        row = index.execute(ONE + NEWEST, (name, name)).fetchone()
    elif isinstance(which, int):
        row = index.execute(ONE + "?", (name, which)).fetchone()
    else:
        row = index.execute(ONE + ALIASED, (name, name, which)).fetchone()
    return as_entry(row) if row else _unknown(index, asked, name, which)


def as_entry(row: Sequence[Any]) -> Entry:
    """Return a row of ENTRY as an entry."""
    *values, aliases = row
    values.append(tuple(sorted(aliases.split(","))) if aliases else ())
    return Entry(*values)


def next_entries(index: sqlite3.Connection, after: str, limit: int, search: str) -> list[Entry]:
    """Return the newest versions of the next `limit` names after `after` that contain `search`."""
    return [as_entry(row) for row in index.execute(NEXT, (after, search.lower(), limit)).fetchall()]


def all_versions(index: sqlite3.Connection, name: str) -> list[Entry]:
    """Return the versions of a name, the newest first. Raises UnknownAdapterError."""
    rows = index.execute(
        f"SELECT {ENTRY} FROM versions AS v WHERE v.name = ? ORDER BY v.version DESC", [name]
    )
    return [as_entry(row) for row in rows.fetchall()] or _unknown(index, name, name, None)


def versions_after(index: sqlite3.Connection, name: str, version: int, limit: int) -> list[Entry]:
    """Return the next versions of all names, in the order of names and versions."""
    rows = index.execute(
        f"SELECT {ENTRY} FROM versions AS v WHERE (v.name, v.version) > (?, ?) "
        "ORDER BY v.name, v.version LIMIT ?",
        (name, version, limit),
    )
    return [as_entry(row) for row in rows.fetchall()]


def spot_of(index: sqlite3.Connection, entry: Entry) -> Spot:
    """Return the current place of an entry's record. Raises UnknownAdapterError."""
    key = (entry.name, entry.version)
    row = index.execute(
        "SELECT slab, start, size FROM versions WHERE name = ? AND version = ?", key
    ).fetchone()
    return Spot(*row) if row else _unknown(index, entry.full_name, *key)


def _unknown(index: sqlite3.Connection, asked: str, name: str, which: int | str | None) -> Any:
    """Raise UnknownAdapterError that says whether the name, the version or the alias does not exist."""
    row = index.execute("SELECT newest, last FROM names WHERE name = ?", [name]).fetchone()
    if row is None:
        if index.execute("SELECT 1 FROM removed WHERE name = ?", [name]).fetchone():
            raise UnknownAdapterError(f"adapter {name!r} was removed with all its versions")
        raise UnknownAdapterError(f"there is no adapter {name!r}; `softcue bank list` lists all names")
    newest, last = row
    if isinstance(which, int):
        what = f"version {which} was removed" if which <= last else f"there is no version {which} yet"
        raise UnknownAdapterError(f"{asked}: {what}; the newest is {name}@{newest}")
    raise UnknownAdapterError(f"{asked}: no version has the alias {which!r}; the newest is {name}@{newest}")
