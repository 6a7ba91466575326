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

WANTS_BANK = "versions and aliases want a bank: `softcue bank add BANK FOLDER`"
Stamp = tuple[tuple[int, int, int], ...]  # size, time, inode of an adapter's files, changed when replaced


@dataclass(frozen=True)
class _Bound:
    """The backbone of a folder's adapters."""

    backbone: str
    fingerprint: str
    dims: Dims


class AdapterFolders:
    """Adapters in folders of their own, which lie in one folder; the headers are read when asked for.

    Versions count from 1 while this object lives: an adapter that was replaced, by whomever, has a new one,
    and its older ones are gone. The first adapter that can be read says which backbone is the folder's.
    """

    def __init__(self, path: str | Path, only: str | None = None, at: Path | None = None) -> None:
        """Open a folder.

        only: the one adapter to find in it. at: the folder of that one, if it is called otherwise and is not
        to be written to. Raises RequestError.
        """
        self.path, self.only, self.at = Path(path).absolute(), only, at
        if not self.path.is_dir():
            raise RequestError(f"{path} is no folder; expected one with adapters in it")
        self._seen: dict[str, tuple[Stamp, Entry]] = {}
        self._versions: dict[str, int] = {}
        self._bound: _Bound | None = None
        self._reading, self._writing = threading.Lock(), threading.Lock()

    @property
    def backbone(self) -> str:
        """The backbone of the first adapter that can be read; "" while there are none."""
        bound = self._binding()
        return bound.backbone if bound else ""

    @property
    def fingerprint(self) -> str:
        """The fingerprint of that backbone; "" while there are none."""
        bound = self._binding()
        return bound.fingerprint if bound else ""

    def find(self, asked: str) -> Entry:
        """Return what "spam" or "spam@3" stands for now.

        Raises UnknownAdapterError, and AdapterError if the folder's header is damaged.
        """
        name, which = split_name(asked)
        entry = self._look(name)
        if isinstance(which, str):
            raise UnknownAdapterError(f"{asked}: folders have no aliases; {WANTS_BANK}")
        if which not in (None, entry.version):
            raise UnknownAdapterError(
                f"{asked}: a folder holds one version of an adapter, {entry.full_name} by now; {WANTS_BANK}"
            )
        return entry

    def load(self, entry: Entry) -> Adapter:
        """Read an adapter and check all of it.

        Raises UnknownAdapterError if it was replaced or removed, AdapterError if it is damaged.
        """
        self.find(entry.full_name)
        adapter = Adapter.load(self._place(entry.name))
        self.find(entry.full_name)  # it may have been replaced while it was read
        return adapter

    def page(self, after: str = "", limit: int = 100, search: str = "") -> list[Entry]:
        """Return the adapters of the next names after `after` that contain `search`, in order.

        search: whatever its case. Those that cannot be read are left out.
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
        """Count the folders that look like adapters."""
        return len(self.names())

    def add(self, name: str, adapter: Adapter) -> Entry:
        """Save an adapter as a folder, in the place of one of this name; it is on the disk then.

        Raises AdapterError for an adapter of another backbone, RequestError for what cannot be saved.
        """
        check_name(name)
        self._refuse_others(name)
        refuse_checkpoint(name, adapter)
        with self._writing:
            self._refuse_backbone(name, adapter)
            adapter.save(self.path / name)
            return self._look(name)

    def alias(self, name: str, alias: str, version: int | None) -> Entry:
        """Refuse: folders have no aliases. Raises RequestError."""
        raise RequestError(f"{name}@{alias}: folders have no aliases; {WANTS_BANK}")

    def remove(self, asked: str) -> list[Entry]:
        """Remove an adapter's folder, if nothing of others' is in it.

        Raises UnknownAdapterError and WriteError.
        """
        with self._writing:
            entry = self.find(asked)
            self._refuse_others(entry.name)
            remove_folder(self.path / entry.name, refuse_foreign)
            return [entry]

    def _refuse_others(self, name: str) -> None:
        """Refuse to write where this object is of one adapter, or through a link to another place."""
        if self.at is not None:
            raise WriteError(f"{self.only} is a copy of what another place holds; copy it to a folder first")
        if self.only not in (None, name):
            raise RequestError(
                f"{self.path / str(self.only)} is a single adapter, and {name!r} is another; {WANTS_BANK}"
            )
        if (self.path / name).is_symlink():
            raise WriteError(f"{self.path / name} is a link; change what it points to")

    def names(self) -> Sequence[str]:
        """Return the names of the folders that look like adapters, in order."""
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
        """Refuse an adapter of another backbone than the folder's first. Raises AdapterError."""
        bound = self._binding()
        if bound:
            here = f"the backbone of {self.path} is {bound.backbone}"
            adapter.check(name, here, bound.fingerprint, bound.dims)

    def _look(self, name: str) -> Entry:
        """Return the entry of an adapter, read anew if its files have changed.

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
            if entry is None or stood != stamp:  # no other thread has come first
                self._versions[name] = self._versions.get(name, 0) + 1
                entry = Entry(
                    name=name,
                    version=self._versions[name],
                    sha256=hashlib.sha256(header).hexdigest(),  # the header holds the hash of the numbers
                    method=adapter.method,
                    kind=adapter.kind,
                    labels=len(adapter.labels),
                    size=sum(size for size, _, _ in stamp),
                    added=max(changed for _, changed, _ in stamp) / 1e9,
                )
                self._seen[name] = stamp, entry
            return entry

    def _stamp(self, name: str) -> Stamp:
        """Return the sizes, times and numbers of an adapter's files. Raises UnknownAdapterError."""
        if self.only in (None, name):
            folder = self._place(name)
            stamp = _stamp_of(folder)
            if stamp is None and folder.parent.is_dir():
                with reading(folder):  # it may be swapped at this moment, or a crash has left it aside
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
    """Return an adapter's name and folder, or those of each in a folder, in order.

    where: a folder, or hf:OWNER/NAME. Raises RequestError if there are none, and AdapterError for a
    repository that cannot be had.
    """
    place = local_folder(where)
    if (place / HEADER).is_file():
        return [(own_name(where), place)]
    found = [(name, place / name) for name in AdapterFolders(place).names()]
    if not found:
        raise RequestError(f"{place} holds no adapters; expected {HEADER} in it, or in folders in it")
    return found


def _stamp_of(folder: Path) -> Stamp | None:
    """Return what tells an adapter's files from those that replace them; None where there is no header."""
    found = []
    for name in (HEADER, TENSORS):
        try:
            status = os.stat(folder / name)
        except OSError:
            if name == HEADER:
                return None
            continue  # the missing numbers are told of when they are loaded
        found.append((status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(found)
