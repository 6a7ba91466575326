"""What the C library does with memory that torch gives back."""

import ctypes
import sys
from functools import cache

TRIM, MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
KEPT_BYTES = 2**29  # bytes at the end of the heap that are kept for what comes next
LARGE = 2**25  # bytes of an allocation that still comes from the heap: the most that glibc takes


@cache
def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed.

    By default it returns it to the system after a layer and gets it back, page by page, for the next.

    Those page faults were up to a third of the time of a forward on CPU. For the whole process, up to KEPT
    bytes; elsewhere than on Linux with glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(TRIM, KEPT_BYTES)
        mallopt(MMAP, LARGE)
