"""Writing: a file or a folder is whole or absent, and what a crash has left is repaired."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from softcue.errors import RequestError, WriteError, short
from softcue.files.read import reason

# raises RequestError for a folder with something in it that is not ours to replace
Check = Callable[[Path], None]


def check_file(path: str | Path) -> Path:
    """Return the resolved path that write_file will write, and refuse early what it would refuse.

    Raises RequestError.
    """
    path = resolve(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise WriteError(
            f"{path} is a folder or a device; expected a file, or nothing, to write in its place"
        )
    try:
        os.stat(os.path.join(path.parent, ""))  # the slash at its end makes a file an error
    except OSError as error:
        raise WriteError(f"cannot write {path}: its folder: {reason(error)}; make it first") from error
    if not os.access(path.parent, os.W_OK):
        raise WriteError(f"cannot write {path}: its folder cannot be written to")
    return path


def write_file(path: str | Path, data: bytes | Iterable[bytes | memoryview]) -> Path:
    """Write a file whole or not at all, and return its resolved path.

    data: the file's bytes, or parts of them in order.

    What was there stays until the new bytes are on disk. Raises RequestError.
    """
    path = check_file(path)
    try:
        with _locked(path.parent, shared=False) as held:
            new = _sibling(path, "writing")
            if held:
                _remove(new)
            _write_then_swap(new, path, [data] if isinstance(data, bytes) else data)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {reason(error)}; nothing half-written is left") from error
    return path


def check_folder(folder: str | Path, check: Check) -> Path:
    """Return the resolved path that write_folder will replace, and refuse early what it would refuse.

    Raises RequestError.
    """
    folder = resolve(folder)
    try:
        with _locked(folder.parent, shared=True):
            _check_replaced(folder, check)
        nearest = next(parent for parent in folder.parents if os.path.exists(parent))
    except OSError as error:
        raise WriteError(f"cannot write {folder}: {reason(error)}") from error
    if not os.access(nearest, os.W_OK | os.X_OK) or not nearest.is_dir():
        what = "cannot be written to" if nearest.is_dir() else "is a file; expected a folder"
        raise WriteError(f"cannot write {folder}: {nearest} {what}")
    names = (*folder.parts, _sibling(folder, "writing").name)
    longest = max(len(os.fsencode(name)) for name in names)
    if longest > os.pathconf(nearest, "PC_NAME_MAX"):
        raise WriteError(f"cannot write {folder}: File name too long; give a shorter one")
    return folder


def write_folder(folder: str | Path, fill: Callable[[Path], None], check: Check) -> Path:
    """Let `fill` write a new folder beside `folder`, sync it, and swap the two by rename.

    fill: called with the new folder; it must not save or load a sibling of `folder`.
    check: refuses a folder with something in it that must not be lost.

    Raises RequestError.
    """
    folder = resolve(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent, shared=False) as held:
            if held:
                _repair(folder)
            _fill_then_swap(_sibling(folder, "writing"), folder, fill, check)
    except OSError as error:
        raise WriteError(f"cannot write {folder}: {reason(error)}; nothing half-written is left") from error
    return folder


def refuse_filled(folder: Path) -> None:
    """Raise WriteError for a folder with anything in it, where nothing would tell whose it is."""
    if os.listdir(folder):
        raise WriteError(f"{folder} is a folder that is not empty; give another, or move that away")


def remove_folder(folder: str | Path, check: Check) -> None:
    """Remove a folder; whoever reads it meanwhile has it whole.

    check: refuses a folder with something in it that must not be lost.

    Raises RequestError.
    """
    folder = resolve(folder)
    gone = _sibling(folder, "writing")  # what has this name is removed by the next write, if not by us
    try:
        with _locked(folder.parent, shared=False) as held:
            if held:
                _repair(folder)
            _check_replaced(folder, check)
            os.replace(folder, gone)
            _sync(folder.parent)
            _remove(gone)
    except OSError as error:
        raise WriteError(f"cannot remove {folder}: {reason(error)}") from error


def clear_unfinished(folder: Path) -> None:
    """Remove what killed processes had begun to write in a folder.

    It waits for a process that writes there now.
    """
    with _locked(folder, shared=False) as held:
        if not held:  # without a lock nobody knows whether the writer still lives
            return
        for unfinished in folder.glob(_sibling(folder / "*", "writing").name):
            _remove(unfinished)


def recover(folder: str | Path) -> None:
    """Repair what a crashed write_folder left.

    What was moved aside is brought back, and what was half-written is removed.
    """
    folder = resolve(folder)
    try:
        if not any(os.path.lexists(_sibling(folder, state)) for state in ("writing", "aside")):
            return
        with _locked(folder.parent, shared=False) as held:
            if held:
                _repair(folder)
    except OSError as error:
        if not os.path.exists(folder):
            aside = _sibling(folder, "aside")
            raise WriteError(
                f"cannot restore {folder} from {aside}: {reason(error)}; rename it by hand"
            ) from error


@contextlib.contextmanager
def reading(folder: str | Path) -> Iterator[None]:
    """Recover a folder, and keep other processes from swapping it while its files are read."""
    folder = resolve(folder)
    recover(folder)
    with _locked(folder.parent, shared=True):
        yield


def as_path(name: str, value: Any) -> Path:
    """Return what names a file or folder as a path; RequestError that says `name` for another object."""
    if not isinstance(value, str | os.PathLike):
        raise RequestError(f"{name} is a {type(value).__name__} ({short(value)}); expected a path")
    return Path(value)


def resolve(path: str | Path) -> Path:
    """Return an absolute path without links, so that a link's target is replaced and not the link.

    Raises RequestError for a path that holds a NUL character.
    """
    if "\0" in str(path):
        raise RequestError(f"{str(path)!r} is no path: it holds a NUL character")
    return Path(os.path.realpath(path))


@contextlib.contextmanager
def _locked(parent: Path, shared: bool) -> Iterator[bool]:
    """Hold the folder's lock, and yield whether it is held: some file systems have no locks.

    The system releases the lock of a killed process.
    """
    try:
        descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield False  # whoever reads or writes there will find out what is wrong with the folder
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            held = True
        except OSError:
            held = False
        yield held
    finally:
        with contextlib.suppress(OSError):
            # Closing alone does not release the lock if a child process was forked meanwhile.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _sibling(path: Path, state: str) -> Path:
    return path.parent / f".{path.name}.softcue-{state}"


def _repair(folder: Path) -> None:
    """Bring back what was moved aside, and remove the rest.

    The caller holds the lock, so that no living writer owns what is found here.
    """
    aside = _sibling(folder, "aside")
    if os.path.lexists(aside) and not os.path.lexists(folder):
        os.replace(aside, folder)
        _sync(folder.parent)
    _remove(aside)
    _remove(_sibling(folder, "writing"))


def _check_replaced(folder: Path, check: Check) -> None:
    if os.path.exists(folder) and (os.path.ismount(folder) or not folder.is_dir()):
        what = "mount point, which cannot be replaced" if folder.is_dir() else "file"
        raise WriteError(f"{folder} is a {what}; expected a folder, or nothing, to write in its place")
    if os.path.exists(folder):
        check(folder)


def _write_then_swap(new: Path, path: Path, parts: Iterable[bytes | memoryview]) -> None:
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(descriptor)
        os.replace(new, path)
    except BaseException:
        _remove(new)
        raise
    _sync(path.parent)


def _fill_then_swap(new: Path, folder: Path, fill: Callable[[Path], None], check: Check) -> None:
    os.mkdir(new)
    try:
        fill(new)
        for place, _, names in os.walk(new):
            for name in names:
                _sync(Path(place, name))
            _sync(Path(place))
        _check_replaced(folder, check)  # again, for filling takes time in which the folder may have changed
        _swap(new, folder)
    except BaseException:
        _remove(new)
        raise
    _remove(_sibling(folder, "aside"))


def _swap(new: Path, folder: Path) -> None:
    aside = _sibling(folder, "aside")
    moved = folder.exists()
    if moved:
        os.replace(folder, aside)
    try:
        os.replace(new, folder)
        _sync(folder.parent)
    except BaseException:
        if folder.exists():
            os.replace(folder, new)
        if moved:
            os.replace(aside, folder)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove a file or a folder; what cannot be removed now is tried again by the next write."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
