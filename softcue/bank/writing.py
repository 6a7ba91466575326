"""Changes of a bank's index; each is part of one transaction of a writer that has locked the bank."""

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from softcue.adapter import Adapter
from softcue.bank.entry import ALIAS, Entry, check_name, split_name
from softcue.bank.lookup import all_versions, look_up
from softcue.bank.record import record_hash, to_record
from softcue.bank.slabs import SLAB_LIMIT, Slabs, Spot
from softcue.errors import AdapterError, RequestError, short
from softcue.protocol import Dims


@dataclass(frozen=True)
class Fresh:
    """An adapter that is being added to a bank."""

    name: str
    adapter: Adapter
    record: bytes


def freshen(name: str, adapter: Adapter) -> Fresh:
    """Check the name and the adapter, and make the record. Raises RequestError and AdapterError."""
    check_name(name)
    refuse_checkpoint(name, adapter)
    return Fresh(name, adapter, to_record(adapter.to_files(name)))


def refuse_checkpoint(name: str, adapter: Adapter) -> None:
    """Raise AdapterError for a checkpoint that was tuned in full."""
    if adapter.tuned != "cue":
        raise AdapterError(
            f"{name!r} is a checkpoint that was tuned in full, with its own encoder; expected an adapter of "
            "a frozen backbone: serve the checkpoint alone, or train an adapter"
        )


def bind(index: sqlite3.Connection, added: Sequence[Fresh]) -> None:
    """Raise AdapterError for an adapter whose backbone is not the bank's.

    In an empty bank, the first adapter's backbone becomes the bank's.
    """
    row = index.execute("SELECT backbone, fingerprint, dims FROM backbones").fetchone()
    if row is None:
        first = added[0].adapter
        row = first.backbone, first.fingerprint, json.dumps(asdict(first.dims))
        index.execute("INSERT INTO backbones VALUES (?, ?, ?)", row)
    backbone, fingerprint, dims = row[0], row[1], Dims(**json.loads(row[2]))
    for one in added:
        one.adapter.check(one.name, f"a bank for {backbone}", fingerprint, dims)


def put(index: sqlite3.Connection, slabs: Slabs, records: Sequence[bytes], but: int = 0) -> list[Spot]:
    """Append records to the newest slab and sync them.

    A new slab is begun if the newest one is full, damaged or the slab `but`.
    """
    spots: list[Spot] = []
    while len(spots) < len(records):
        row = index.execute("SELECT slab, size FROM slabs ORDER BY slab DESC LIMIT 1").fetchone()
        if row is None or row[0] == but or row[1] >= SLAB_LIMIT or slabs.size(row[0]) < row[1]:
            made = index.execute("INSERT INTO slabs (size) VALUES (0)").lastrowid
            assert made is not None
            row = made, 0
        slab, end = row
        room = SLAB_LIMIT - end
        several: list[bytes] = []
        for record in records[len(spots) :]:
            if several and len(record) > room:
                break
            several.append(record)
            room -= len(record)
        spots += slabs.append(slab, end, several)
        end = spots[-1].start + spots[-1].size
        index.execute("UPDATE slabs SET size = ? WHERE slab = ?", (end, slab))
    return spots


def enter(index: sqlite3.Connection, added: Sequence[Fresh], spots: Sequence[Spot]) -> list[Entry]:
    """Give each record the next version of its name, and return the entries."""
    now = time.time()
    entries = []
    for one, spot in zip(added, spots, strict=True):
        adapter = one.adapter
        version = _next_version(index, one.name)
        entry = Entry(
            name=one.name,
            version=version,
            sha256=record_hash(one.record),
            method=adapter.method,
            kind=adapter.kind,
            labels=len(adapter.labels),
            size=len(one.record),
            added=now,
        )
        index.execute(
            "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(entry.name, version, spot.slab, spot.start, spot.size, entry.sha256),
                *(entry.method, entry.kind, entry.labels, now),
            ),
        )
        entries.append(entry)
    return entries


def _next_version(index: sqlite3.Connection, name: str) -> int:
    """Return a version number that the name has never had, and make it the newest."""
    row = index.execute("SELECT last FROM names WHERE name = ?", [name]).fetchone()
    if row is None:
        row = index.execute("SELECT last FROM removed WHERE name = ?", [name]).fetchone() or (0,)
        index.execute("DELETE FROM removed WHERE name = ?", [name])
    version = int(row[0]) + 1
    index.execute("INSERT OR REPLACE INTO names VALUES (?, ?, ?)", (name, version, version))
    return version


def name_version(index: sqlite3.Connection, name: str, alias: str, version: int | None) -> Entry:
    """Make an alias mean a version, or remove it if version is None; return the entry of the version."""
    if not isinstance(alias, str) or not ALIAS.fullmatch(alias):
        raise RequestError(
            f"{short(alias)} is not an alias; expected a letter, then letters, digits, '.', '_' and '-', at "
            "most 32 characters"
        )
    check_name(name)
    entry = look_up(index, f"{name}@{alias}" if version is None else f"{name}@{version}")
    if version is None:
        index.execute("DELETE FROM aliases WHERE name = ? AND alias = ?", (name, alias))
    else:
        index.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?, ?)", (name, alias, version))
    return look_up(index, entry.full_name)


def take_out(index: sqlite3.Connection, asked: str) -> list[Entry]:
    """Remove all versions of a name, or one version, with their aliases, and return the removed entries."""
    name, which = split_name(asked)
    gone = all_versions(index, name) if which is None else [look_up(index, asked)]
    for entry in gone:
        key = (name, entry.version)
        index.execute("DELETE FROM versions WHERE name = ? AND version = ?", key)
        index.execute("DELETE FROM aliases WHERE name = ? AND version = ?", key)
    newest = index.execute("SELECT max(version) FROM versions WHERE name = ?", [name]).fetchone()[0]
    if newest is None:
        index.execute("INSERT INTO removed SELECT name, last FROM names WHERE name = ?", [name])
        index.execute("DELETE FROM names WHERE name = ?", [name])
    else:
        index.execute("UPDATE names SET newest = ? WHERE name = ?", (newest, name))
    return gone
