"""The index of a bank, in SQLite: its names and versions, and the places of their records.

Its journal is a rollback journal (TRUNCATE), not a write-ahead log: a write-ahead log needs memory that all
processes share, so it does not work on storage that several machines share. Readers wait while a commit
writes its few pages. If a writer was killed, the next process rolls its journal back.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from softcue.errors import AdapterError, RequestError, WriteError

APPLICATION = 0x736F6662  # "sofb": the application id in SQLite's own header
FORMAT_OF_INDEX = 1
COMMIT_PATIENCE = 30.0  # seconds to wait for the commit of another process
SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE backbones (backbone TEXT NOT NULL, fingerprint TEXT NOT NULL, dims TEXT NOT NULL);
CREATE TABLE names (
    name TEXT PRIMARY KEY,
    newest INTEGER NOT NULL,
    last INTEGER NOT NULL -- the highest version ever given
) WITHOUT ROWID;
CREATE TABLE removed (name TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID; -- names without versions
CREATE TABLE versions (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    slab INTEGER NOT NULL,
    start INTEGER NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    method TEXT NOT NULL,
    kind TEXT NOT NULL,
    labels INTEGER NOT NULL,
    added REAL NOT NULL,
    PRIMARY KEY (name, version)
) WITHOUT ROWID;
CREATE INDEX versions_by_spot ON versions (slab, start, size);
CREATE TABLE aliases (
    name TEXT NOT NULL,
    alias TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (name, alias)
) WITHOUT ROWID;
-- AUTOINCREMENT: the number of a removed slab is not used again
CREATE TABLE slabs (slab INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT_OF_INDEX};
COMMIT;
"""


class Index:
    """Connections to a bank's index; any thread may use it, also after a fork."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._idle: list[sqlite3.Connection] = []
        self._process = os.getpid()

    def check(self) -> None:
        """Raise AdapterError for a damaged file, RequestError for one that is not an index of this format."""
        with self.reading() as held:
            found = held.execute("PRAGMA application_id").fetchone()[0]
            version = held.execute("PRAGMA user_version").fetchone()[0]
        if found != APPLICATION:
            raise RequestError(f"{self.file} is not the index of a softcue bank; give a bank's folder")
        if version != FORMAT_OF_INDEX:
            raise RequestError(
                f"{self.file} has format {version}; this softcue reads {FORMAT_OF_INDEX}: use the version of "
                "softcue that wrote it"
            )

    def create(self) -> None:
        """Create the tables if they do not exist. The caller must have locked the bank."""
        with self._changing("rwc") as held:
            if held.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
                held.executescript(SCHEMA)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection for reading; each statement sees a consistent state of the index.

        Raises AdapterError if the index is damaged.
        """
        held = self._take()
        try:
            yield held
        except sqlite3.Error as error:
            held.close()
            raise self._unread(error) from error
        except BaseException:
            self._idle.append(held)
            raise
        else:
            self._idle.append(held)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection in a transaction, and commit at the end; an error undoes all changes.

        The caller must have locked the bank. Raises WriteError.
        """
        with self._changing("rw") as held:
            held.execute("BEGIN IMMEDIATE")
            try:
                yield held
                held.execute("COMMIT")
            except BaseException:
                if held.in_transaction:
                    held.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    def __del__(self) -> None:
        self.close()  # what nobody closed: Python 3.13 warns of a connection that is collected open

    def _take(self) -> sqlite3.Connection:
        if self._process != os.getpid():  # a connection must not be used in a forked process
            self._idle, self._process = [], os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            pass
        mode = (
            "rw" if os.access(self.file, os.W_OK) else "ro"
        )  # rw: SQLite may have to roll back a killed writer's journal
        try:
            held = self._connect(mode)
            held.execute("PRAGMA query_only = 1")
            return held
        except sqlite3.Error as error:
            raise self._unread(error) from error

    @contextlib.contextmanager
    def _changing(self, mode: str) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(self._connect(mode)) as held:
                held.execute("PRAGMA journal_mode = TRUNCATE")
                held.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns
                held.execute("PRAGMA cache_spill = 0")  # readers wait only for commits, also for large ones
                yield held
        except sqlite3.Error as error:
            raise WriteError(f"{self.file} cannot be written: {error}") from error

    def _connect(self, mode: str) -> sqlite3.Connection:
        address = f"file:{quote(str(self.file))}?mode={mode}"
        return sqlite3.connect(
            address, uri=True, timeout=COMMIT_PATIENCE, isolation_level=None, check_same_thread=False
        )

    def _unread(self, error: Exception) -> AdapterError:
        return AdapterError(f"{self.file}: the bank's index cannot be read: {error}")
