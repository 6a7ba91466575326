"""The upkeep of a bank: counts its content, finds damage, and frees the bytes of removed records."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from softcue.bank.record import record_hash
from softcue.bank.slabs import Slabs, Spot
from softcue.bank.writing import put
from softcue.errors import AdapterError
from softcue.files import JsonRecord

DEAD_SHARE = 0.25  # a slab with at least this share of dead bytes is compacted
PIECE = 32 * 2**20  # bytes of records in memory while a slab is copied


@dataclass(frozen=True)
class BankStats(JsonRecord):
    """The content of a bank, and the bytes that it takes."""

    names: int
    versions: int
    bytes_live: int
    bytes_dead: int  # of removed records and of interrupted writes
    slabs: int
    methods: Mapping[str, int]  # number of versions of each method


@dataclass(frozen=True)
class Compacted(JsonRecord):
    """The result of a compaction."""

    slabs: int  # number of slabs whose live records were moved
    freed: int  # bytes
    left: tuple[str, ...]  # slabs that were not compacted, because a record in them is damaged


@dataclass(frozen=True)
class Damage(JsonRecord):
    """A damaged record."""

    name: str  # with the version
    problem: str


@dataclass(frozen=True)
class Verified(JsonRecord):
    """The result of checking every record."""

    checked: int
    damaged: tuple[Damage, ...]


def take_stock(index: sqlite3.Connection, slabs: Slabs) -> BankStats:
    """Count a bank's names, versions and bytes."""
    names = index.execute("SELECT count(*) FROM names").fetchone()[0]
    by_method = index.execute("SELECT method, count(*), sum(size) FROM versions GROUP BY method").fetchall()
    live = sum(size for _, _, size in by_method)
    there = slabs.there()
    return BankStats(
        names=names,
        versions=sum(count for _, count, _ in by_method),
        bytes_live=live,
        bytes_dead=max(0, sum(map(slabs.size, there)) - live),
        slabs=len(there),
        methods={method: count for method, count, _ in by_method},
    )


def wasteful_slabs(index: sqlite3.Connection, slabs: Slabs) -> list[int]:
    """Return the slabs in which the share of dead bytes is at least DEAD_SHARE."""
    live = dict(index.execute("SELECT slab, sum(size) FROM versions GROUP BY slab").fetchall())
    sizes = {slab: slabs.size(slab) for (slab,) in index.execute("SELECT slab FROM slabs").fetchall()}
    return [slab for slab, size in sizes.items() if size - live.get(slab, 0) >= max(1, DEAD_SHARE * size)]


def evacuate(index: sqlite3.Connection, slabs: Slabs, slab: int) -> int:
    """Copy a slab's live records to other slabs, point the index to the copies, and return their bytes.

    The slab's file can be removed after the commit. Raises AdapterError if a record is damaged.
    """
    rows = index.execute(
        "SELECT name, version, start, size, sha256 FROM versions WHERE slab = ? ORDER BY start", [slab]
    ).fetchall()
    piece: list[tuple[str, int, int, int, str]] = []
    held = 0
    for row in rows:
        piece.append(row)
        held += row[3]
        if held >= PIECE:
            _move(index, slabs, slab, piece)
            piece, held = [], 0
    if piece:
        _move(index, slabs, slab, piece)
    index.execute("DELETE FROM slabs WHERE slab = ?", [slab])
    return sum(row[3] for row in rows)


def _move(
    index: sqlite3.Connection, slabs: Slabs, slab: int, piece: list[tuple[str, int, int, int, str]]
) -> None:
    records = []
    for name, version, start, size, sha256 in piece:
        try:
            record = slabs.read(Spot(slab, start, size))
        except FileNotFoundError:
            raise AdapterError(f"{slabs.file(slab)} is missing") from None
        if record_hash(record) != sha256:
            raise AdapterError(f"{slabs.file(slab)} is not compacted: {name}@{version} in it is damaged")
        records.append(record)
    spots = put(index, slabs, records, but=slab)
    for (name, version, *_), spot in zip(piece, spots, strict=True):
        index.execute(
            "UPDATE versions SET slab = ?, start = ? WHERE name = ? AND version = ?",
            (spot.slab, spot.start, name, version),
        )


def drop_strays(index: sqlite3.Connection, slabs: Slabs) -> int:
    """Remove slabs of killed processes, which are not in the index, and return the number of their bytes."""
    known = {slab for (slab,) in index.execute("SELECT slab FROM slabs").fetchall()}
    strays = [slab for slab in slabs.there() if slab not in known]
    freed = sum(map(slabs.size, strays))
    for slab in strays:
        slabs.drop(slab)
    return freed
