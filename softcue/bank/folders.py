"""AdapterFolders: a folder of adapter folders, found by the names of the folders."""

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softcue.adapter import Adapter, refuse_foreign
from softcue.adapter.folder import HEADER, TENSORS
from softcue.adapter.header_file import read_header
from softcue.adapter.remote import local_folder, own_name
from softcue.bank.bank import check_limit
from softcue.bank.entry import NAME, Entry, check_name, split_name
from softcue.bank.writing import refuse_checkpoint
from softcue.errors import AdapterError, RequestError, UnknownAdapterError, WriteError
from softcue.files import reading, remove_folder
from softcue.protocol import Dims

WANTS_BANK = "versions and aliases need a bank: `softcue bank add BANK FOLDER`"
Stamp = tuple[tuple[int, int, int], ...]  # size, time and inode of an adapter's files


@dataclass(frozen=True)
class _Bound:
    """The backbone of a folder's adapters."""

    backbone: str
    fingerprint: str
    dims: Dims


class AdapterFolders:
    """Reads adapters from the folders in one folder, through the interface of a bank.

    A header is read when it is needed. Versions count from 1 while this object exists: an adapter whose files
    were replaced, by any process, gets a new version, and its older versions no longer exist. The backbone is
    that of the first adapter that can be read.
    """

    def __init__(self, path: str | Path, only: str | None = None, at: Path | None = None) -> None:
        """Open a folder.

        only: the name of a single adapter; the others are ignored. at: the folder of that adapter, if it has
        another name; it is then read-only. Raises RequestError if the path is not a folder.
        """
        self.path, self.only, self.at = Path(path).absolute(), only, at
        if not self.path.is_dir():
            raise RequestError(f"{path} is not a folder; expected one with adapters in it")
        self._seen: dict[str, tuple[Stamp, Entry]] = {}
        self._versions: dict[str, int] = {}
        self._bound: _Bound | None = None
        self._reading, self._writing = threading.Lock(), threading.Lock()

    @property
    def backbone(self) -> str:
        """The name of the first readable adapter's backbone; "" while there are no adapters."""
        bound = self._binding()
        return bound.backbone if bound else ""

    @property
    def fingerprint(self) -> str:
        """The fingerprint of that backbone; "" while there are no adapters."""
        bound = self._binding()
        return bound.fingerprint if bound else ""

    def find(self, asked: str) -> Entry:
        """Return the entry that "spam" or "spam@3" means now.

        Raises UnknownAdapterError if there is none, and AdapterError if the adapter's header is damaged.
        """
        name, which = split_name(asked)
        entry = self._look(name)
        if isinstance(which, str):
            raise UnknownAdapterError(f"{asked}: folders have no aliases; {WANTS_BANK}")
        if which not in (None, entry.version):
            raise UnknownAdapterError(
                f"{asked}: a folder has only one version of an adapter, now {entry.full_name}; {WANTS_BANK}"
            )
        return entry

    def load(self, entry: Entry) -> Adapter:
        """Read an adapter and check all of it.

        Raises UnknownAdapterError if it was replaced or removed, AdapterError if it is damaged.
        """
        self.find(entry.full_name)
        adapter = Adapter.load(self._place(entry.name))
        self.find(entry.full_name)  # the files may have been replaced during the read
        return adapter

    def page(self, after: str = "", limit: int = 100, search: str = "") -> list[Entry]:
        """Return the adapters of the next names after `after`, sorted by name.

        search: only names that contain this, in upper or lower case. limit: the most entries. Adapters that
        cannot be read are left out.
        """
        check_limit(limit)
        entries: list[Entry] = []
        for name in self.names():
            if name > after and search.lower() in name.lower():
                try:
                    entries.append(self._look(name))
                except (AdapterError, UnknownAdapterError):
                    continue  # whoever asks for it is told why
                if len(entries) == limit:
                    break
        return entries

    def count(self) -> int:
        """Count the folders that have an adapter's header."""
        return len(self.names())

    def add(self, name: str, adapter: Adapter) -> Entry:
        """Save an adapter as a folder, and replace an older one; when this returns, it is on the disk.

        Raises AdapterError if the adapter has another backbone, RequestError if it cannot be saved.
        """
        check_name(name)
        self._refuse_others(name)
        refuse_checkpoint(name, adapter)
        with self._writing:
            self._refuse_backbone(name, adapter)
            adapter.save(self.path / name)
            return self._look(name)

    def alias(self, name: str, alias: str, version: int | None) -> Entry:
        """Raise RequestError, because folders have no aliases."""
        raise RequestError(f"{name}@{alias}: folders have no aliases; {WANTS_BANK}")

    def remove(self, asked: str) -> list[Entry]:
        """Remove an adapter's folder.

        Raises UnknownAdapterError if there is none, and WriteError if the folder has files of other programs.
        """
        with self._writing:
            entry = self.find(asked)
            self._refuse_others(entry.name)
            remove_folder(self.path / entry.name, refuse_foreign)
            return [entry]

    def _refuse_others(self, name: str) -> None:
        """Refuse to write to a read-only copy, beside a single adapter, or through a symbolic link."""
        if self.at is not None:
            raise WriteError(f"{self.only} is a cached copy and cannot be changed; copy it to a folder first")
        if self.only not in (None, name):
            raise RequestError(
                f"{self.path / str(self.only)} is a single adapter, but the name is {name!r}; {WANTS_BANK}"
            )
        if (self.path / name).is_symlink():
            raise WriteError(f"{self.path / name} is a link; change the folder that it points to")

    def names(self) -> Sequence[str]:
        """Return the names of the folders that have an adapter's header, in order."""
        if self.only is not None:
            return [self.only] if (self._place(self.only) / HEADER).is_file() else []
        try:
            names = os.listdir(self.path)
        except OSError as error:
            raise AdapterError(f"{self.path} cannot be read: {error.strerror}") from error
        return sorted(n for n in names if NAME.fullmatch(n) and os.path.isfile(self.path / n / HEADER))

    def _place(self, name: str) -> Path:
        return self.at or self.path / name

    def _binding(self) -> _Bound | None:
        if self._bound is None:
            for name in self.names():
                try:
                    first, _ = self._header(name)
                except AdapterError:
                    continue  # whoever asks for it is told why
                self._bound = _Bound(first.backbone, first.fingerprint, first.dims)
                break
        return self._bound

    def _refuse_backbone(self, name: str, adapter: Adapter) -> None:
        """Raise AdapterError if an adapter's backbone differs from the first adapter's."""
        bound = self._binding()
        if bound:
            here = f"the backbone of {self.path} is {bound.backbone}"
            adapter.check(name, here, bound.fingerprint, bound.dims)

    def _look(self, name: str) -> Entry:
        """Return the entry of an adapter; read it again if its files have changed.

        Raises UnknownAdapterError and AdapterError.
        """
        stamp = self._stamp(name)
        stood, entry = self._seen.get(name, (None, None))
        if entry is not None and stood == stamp:
            return entry
        adapter, header = self._header(name)
        self._refuse_backbone(name, adapter)
        with self._reading:
            stood, entry = self._seen.get(name, (None, None))
            if entry is None or stood != stamp:  # no other thread has updated it meanwhile
                self._versions[name] = self._versions.get(name, 0) + 1
                entry = Entry(
                    name=name,
                    version=self._versions[name],
                    sha256=hashlib.sha256(header).hexdigest(),  # the header has the hash of the tensors
                    method=adapter.method,
                    kind=adapter.kind,
                    labels=len(adapter.labels),
                    size=sum(size for size, _, _ in stamp),
                    added=max(changed for _, changed, _ in stamp) / 1e9,
                )
                self._seen[name] = stamp, entry
            return entry

    def _stamp(self, name: str) -> Stamp:
        """Return the sizes, times and inodes of an adapter's files. Raises UnknownAdapterError."""
        if self.only in (None, name):
            folder = self._place(name)
            stamp = _stamp_of(folder)
            if stamp is None and folder.parent.is_dir():
                with reading(folder):  # it may be replaced at this moment, or a crash has interrupted that
                    stamp = _stamp_of(folder)
            if stamp is not None:
                return stamp
        with self._reading:
            self._seen.pop(name, None)
        raise UnknownAdapterError(f"there is no adapter {name!r} in {self.path}")

    def _header(self, name: str) -> tuple[Adapter, bytes]:
        """Return an adapter without its tensors, and the header's bytes. Raises AdapterError."""
        header, data = read_header(self._place(name))
        refuse_checkpoint(name, header)
        return header, data


def adapter_folders(where: Path) -> list[tuple[str, Path]]:
    """Return the name and folder of an adapter, or of each adapter in a folder, sorted by name.

    where: a folder, or hf:OWNER/NAME. Raises RequestError if there are no adapters, and AdapterError if a
    repository cannot be downloaded.
    """
    place = local_folder(where)
    if (place / HEADER).is_file():
        return [(own_name(where), place)]
    found = [(name, place / name) for name in AdapterFolders(place).names()]
    if not found:
        raise RequestError(f"{place} has no adapters; expected {HEADER} in it, or in the folders in it")
    return found


def _stamp_of(folder: Path) -> Stamp | None:
    """Return the stamp of an adapter's files, which changes when they are replaced; None without a header."""
    found = []
    for name in (HEADER, TENSORS):
        try:
            status = os.stat(folder / name)
        except OSError:
            if name == HEADER:
                return None
            continue  # loading the adapter reports the missing tensors
        found.append((status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(found)
