"""The lock that lets one process at a time write to a bank."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from softcue.errors import WriteError
from softcue.files.read import reason

LOCK_PATIENCE = 120.0  # seconds
TRY_AGAIN = 0.005  # seconds between two tries


@contextlib.contextmanager
def only_writer(file: Path) -> Iterator[None]:
    """Hold the lock; wait while another thread or process holds it.

    The operating system releases the lock of a process that dies. Raises WriteError if it cannot be locked in
    time.
    """
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise WriteError(f"cannot write to {file.parent}: {reason(error)}") from error
    try:
        _wait(descriptor, file)
        yield
    finally:
        with contextlib.suppress(OSError):
            # If a child process was forked meanwhile, closing the file is not enough to release the lock.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _wait(descriptor: int, file: Path) -> None:
    until = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise WriteError(
                    f"another process has been writing to {file.parent} for {LOCK_PATIENCE:.0f} seconds; try "
                    "again when it is done"
                ) from None
            time.sleep(TRY_AGAIN)
        except OSError as error:
            raise WriteError(
                f"cannot write to {file.parent}: its file system does not support locks ({reason(error)})"
            ) from error
