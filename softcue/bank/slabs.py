"""Slabs: files to which records are appended. Bytes that the index counts never change."""

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from softcue.errors import AdapterError
from softcue.files.read import reason

SLAB_LIMIT = 256 * 2**20  # bytes; a larger slab gets no more records


@dataclass(frozen=True)
class Spot:
    """The place of a record."""

    slab: int
    start: int  # in bytes
    size: int


class Slabs:
    """The folder of a bank's slabs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, slab: int) -> Path:
        """Return the path of a slab."""
        return self.folder / f"{slab:06}.slab"

    def there(self) -> list[int]:
        """Return the numbers of the slabs whose files exist."""
        names = (name.removesuffix(".slab") for name in os.listdir(self.folder) if name.endswith(".slab"))
        return sorted(int(name) for name in names if name.isdigit())

    def size(self, slab: int) -> int:
        """Return the number of bytes of a slab's file, 0 if it does not exist."""
        try:
            return self.file(slab).stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, spot: Spot) -> bytes:
        """Return a record's bytes.

        Raises FileNotFoundError if the slab does not exist, AdapterError if it cannot be read or ends too
        early.
        """
        try:
            descriptor = os.open(self.file(spot.slab), os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.pread(descriptor, spot.size, spot.start)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno == errno.ESTALE:  # NFS gives this error if another machine removed the file
                raise FileNotFoundError(error.errno, str(error)) from error
            raise AdapterError(f"{self.file(spot.slab)} cannot be read: {reason(error)}") from error
        if len(data) != spot.size:
            ends = f"{self.file(spot.slab)} ends {spot.size - len(data):,} bytes too early"
            raise AdapterError(f"{ends}; the file is damaged")
        return data

    def append(self, slab: int, end: int, records: Iterable[bytes]) -> list[Spot]:
        """Write records after the first `end` bytes of a slab, sync them, and return their places.

        Any bytes after `end` were written by a process that was killed, and are not in the index.
        """
        path = self.file(slab)
        new = end == 0
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with os.fdopen(descriptor, "wb") as file:
            os.ftruncate(descriptor, end)
            file.seek(end)
            spots = []
            for record in records:
                file.write(record)
                spots.append(Spot(slab, end, len(record)))
                end += len(record)
            file.flush()
            os.fsync(descriptor)
        if new:
            sync_folder(self.folder)
        return spots

    def drop(self, slab: int) -> None:
        """Remove a slab's file if it exists."""
        self.file(slab).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that the names in it are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
