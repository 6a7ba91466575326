"""Bank: thousands of adapters of one backbone, in a few files.

    bank/
      index.sqlite          names, versions, aliases, and the place of each record
      slabs/000001.slab     records, one after another
      writer.lock           locked by the process that writes

A write appends to a slab, syncs it, and commits to the index. A record that is not in the index is ignored.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from softcue.adapter import Adapter
from softcue.bank.entry import Entry
from softcue.bank.index import Index
from softcue.bank.lock import only_writer
from softcue.bank.lookup import all_versions, look_up, next_entries, spot_of, versions_after
from softcue.bank.record import from_record, record_hash
from softcue.bank.slabs import Slabs, Spot, sync_folder
from softcue.bank.upkeep import (
    BankStats,
    Compacted,
    Damage,
    Verified,
    drop_strays,
    evacuate,
    take_stock,
    wasteful_slabs,
)
from softcue.bank.writing import Fresh, bind, enter, freshen, name_version, put, take_out
from softcue.errors import AdapterError, RequestError, UnknownAdapterError, WriteError
from softcue.files.read import reason

INDEX, LOCK, SLABS = "index.sqlite", "writer.lock", "slabs"
GROUP_BYTES, GROUP_RECORDS = 32 * 2**20, 1000  # limits of a group that is synced and committed together
MOST_ENTRIES = 10_000  # entries of a page
TRIES = 5  # lookups of a record, because a compaction may move it between lookup and read


class Bank:
    """Stores thousands of adapters of one backbone in a folder, with versions and aliases.

    Any thread may use it. Other processes may read and write the same folder; the next call sees their
    changes. Only one process writes at a time; the others wait.
    """

    def __init__(self, path: str | Path) -> None:
        """Open an existing bank. Raises RequestError if the folder is not a bank."""
        self.path = Path(path).absolute()
        if not (self.path / INDEX).is_file():
            raise RequestError(
                f"{path} is not a bank: it has no {INDEX}; make one with `softcue bank add {path} FOLDER`"
            )
        self.index, self.slabs = Index(self.path / INDEX), Slabs(self.path / SLABS)
        self.index.check()

    @staticmethod
    def create(path: str | Path) -> "Bank":
        """Open a bank, or make one if there is none. Raises WriteError if the folder has other files."""
        place = Path(path)
        try:
            place.mkdir(parents=True, exist_ok=True)
            others = set(os.listdir(place)) - {INDEX, f"{INDEX}-journal", LOCK, SLABS}
            if others:
                raise WriteError(
                    f"{place} has files that are not a bank's ({min(others)!r}); give another folder, or one "
                    "that does not exist yet"
                )
            with only_writer(place / LOCK):
                (place / SLABS).mkdir(exist_ok=True)
                Index(place / INDEX).create()
                sync_folder(place)
                sync_folder(place.absolute().parent)
        except OSError as error:
            raise WriteError(f"cannot make a bank in {place}: {reason(error)}") from error
        return Bank(place)

    def __enter__(self) -> "Bank":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all open files. The bank may still be used; it opens them again."""
        self.index.close()

    @property
    def backbone(self) -> str:
        """The name of the adapters' backbone, as in the first adapter; "" before the first one is added."""
        return self._bound()[0]

    @property
    def fingerprint(self) -> str:
        """The fingerprint of that backbone; "" before the first adapter is added."""
        return self._bound()[1]

    def _bound(self) -> tuple[str, str]:
        with self.index.reading() as index:
            return index.execute("SELECT backbone, fingerprint FROM backbones").fetchone() or ("", "")

    def find(self, asked: str) -> Entry:
        """Return the entry that "spam" (the newest version), "spam@3" or "spam@prod" means now.

        Raises UnknownAdapterError if there is none.
        """
        with self.index.reading() as index:
            return look_up(index, asked)

    def versions(self, name: str) -> list[Entry]:
        """Return all versions of a name, the newest first. Raises UnknownAdapterError if there are none."""
        with self.index.reading() as index:
            return all_versions(index, name)

    def page(self, after: str = "", limit: int = 100, search: str = "") -> list[Entry]:
        """Return the newest version of each of the next names after `after`, sorted by name.

        search: only names that contain this, in upper or lower case. limit: the most entries. Raises
        RequestError if limit is below 1 or above 10,000.
        """
        check_limit(limit)
        with self.index.reading() as index:
            return next_entries(index, after, limit, search)

    def count(self) -> int:
        """Count the names."""
        with self.index.reading() as index:
            return int(index.execute("SELECT count(*) FROM names").fetchone()[0])

    def load(self, entry: Entry) -> Adapter:
        """Read an adapter, and check only that its bytes still have the hash that was stored with them.

        Raises UnknownAdapterError if it was removed, AdapterError if it is damaged.
        """
        return self._adapter(entry, self.record(entry), trusted=True)

    def load_checked(self, entry: Entry) -> Adapter:
        """Read an adapter and check all of it, as Adapter.load does. Raises what `load` raises."""
        return self._adapter(entry, self.record(entry), trusted=False)

    def _adapter(self, entry: Entry, record: bytes, trusted: bool) -> Adapter:
        where = f"{self.path}: {entry.full_name}"
        try:
            files = from_record(record)
        except AdapterError as error:
            raise AdapterError(f"{where}: {error}") from error
        return Adapter.from_files(files, where, trusted)

    def record(self, entry: Entry) -> bytes:
        """Return an adapter's record after checking its hash. Raises what `load` raises."""
        where = f"{self.path}: {entry.full_name}"
        last: Spot | None = None
        for _ in range(TRIES):
            with self.index.reading() as index:
                spot = spot_of(index, entry)
            try:
                record = self.slabs.read(spot)
            except FileNotFoundError:  # a compaction has moved the record since the lookup
                problem = f"{self.slabs.file(spot.slab)} is missing"
            else:
                if record_hash(record) == entry.sha256:
                    return record
                problem = f"its bytes in {self.slabs.file(spot.slab)} are not those that were stored"
            if spot == last:
                break
            last = spot
        raise AdapterError(f"{where} is damaged: {problem}; add it again, or restore the bank from a copy")

    def add(self, name: str, adapter: Adapter) -> Entry:
        """Store a new version of a name; when this returns, it is on the disk.

        Raises AdapterError if the adapter has another backbone, RequestError if the name is not allowed, and
        WriteError if the disk refuses.
        """
        return self.add_all([(name, adapter)])[0]

    def add_all(self, adapters: Iterable[tuple[str, Adapter]]) -> list[Entry]:
        """Store many adapters, in groups that are synced together.

        Each group is stored completely or not at all. Raises what `add` raises; the groups before the error
        stay.
        """
        entries: list[Entry] = []
        group: list[Fresh] = []
        held = 0
        for name, adapter in adapters:
            group.append(freshen(name, adapter))
            held += len(group[-1].record)
            if len(group) >= GROUP_RECORDS or held >= GROUP_BYTES:
                entries += self._store(group)
                group, held = [], 0
        return entries + (self._store(group) if group else [])

    def _store(self, group: list[Fresh]) -> list[Entry]:
        with self.changing() as index:
            bind(index, group)
            return enter(index, group, put(index, self.slabs, [one.record for one in group]))

    def alias(self, name: str, alias: str, version: int | None) -> Entry:
        """Make name@alias mean a version, and return the version's entry.

        version: None removes the alias, and returns the entry that it meant. Raises UnknownAdapterError if
        there is no such version or alias.
        """
        with self.changing() as index:
            return name_version(index, name, alias, version)

    def remove(self, asked: str) -> list[Entry]:
        """Remove all versions of a name ("spam") or one version ("spam@3"), and return the removed entries.

        Their bytes stay on the disk until a compaction. Raises UnknownAdapterError if there are none.
        """
        with self.changing() as index:
            return take_out(index, asked)

    def stats(self) -> BankStats:
        """Count names, versions and bytes; the time grows with the number of versions."""
        with self.index.reading() as index:
            return take_stock(index, self.slabs)

    def compact(self) -> Compacted:
        """Free the bytes of removed adapters.

        The live records of slabs with much free space are moved to other slabs. It handles one slab at a
        time, and other writers may write in between. If the process is killed, nothing is lost.
        """
        with self.index.reading() as index:
            wasteful = wasteful_slabs(index, self.slabs)
        moved, freed, left = 0, 0, []
        for slab in wasteful:
            size = self.slabs.size(slab)
            try:
                with self.changing() as index:
                    copied = evacuate(index, self.slabs, slab)
            except AdapterError as error:
                left.append(str(error))
                continue
            self.slabs.drop(slab)
            moved += 1
            freed += size - copied
        with self.changing() as index:
            freed += drop_strays(index, self.slabs)
        return Compacted(moved, freed, tuple(left))

    def verify(self) -> Verified:
        """Read every record, check its hash and all of its adapter, and return what is damaged."""
        with self.index.reading() as index:
            found = index.execute("PRAGMA quick_check(1)").fetchone()[0]
        damaged = [] if found == "ok" else [Damage(INDEX, found)]
        checked, after = 0, ("", 0)
        while True:
            with self.index.reading() as index:
                entries = versions_after(index, *after, limit=500)
            if not entries:
                return Verified(checked, tuple(damaged))
            for entry in entries:
                with contextlib.suppress(UnknownAdapterError):  # removed in the meantime
                    damaged += self._damage(entry)
                    checked += 1
            after = entries[-1].name, entries[-1].version

    def _damage(self, entry: Entry) -> list[Damage]:
        try:
            adapter = self.load_checked(entry)
        except AdapterError as error:
            return [Damage(entry.full_name, str(error))]
        told = entry.method, entry.kind, entry.labels
        if told != (adapter.method, adapter.kind, len(adapter.labels)):
            return [Damage(entry.full_name, f"the index has {told}, which the adapter is not")]
        return []

    def export(self, asked: str, folder: str | Path) -> Path:
        """Save an adapter as a folder after checking all of it, and return the folder's path."""
        return self.load_checked(self.find(asked)).save(folder)

    @contextlib.contextmanager
    def changing(self) -> Iterator[Any]:
        """Lock the bank, and yield a connection in a transaction. Raises WriteError."""
        with only_writer(self.path / LOCK):
            try:
                with self.index.writing() as index:
                    yield index
            except OSError as error:
                raise WriteError(
                    f"cannot write to {self.path}: {reason(error)}; nothing has changed"
                ) from error


def check_limit(limit: int) -> None:
    """Raise RequestError unless a page has 1 to MOST_ENTRIES entries."""
    if not 1 <= limit <= MOST_ENTRIES:
        raise RequestError(f"limit is {limit}; expected 1 to {MOST_ENTRIES:,}")
