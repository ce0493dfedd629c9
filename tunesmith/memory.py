"""Settings of the memory allocator: buffers that a training step frees are reused by the next step.

A training step on a CPU allocates and frees the same buffers of tens of megabytes again and again. By default the C
library returns such memory to the system each time, and the system clears every page when it is allocated again.
"""

from __future__ import annotations

import ctypes
import os

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of mallopt in glibc
LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Make the allocators reuse freed memory and use large pages. Call this before torch is imported.

    It changes no result and costs about 100 MB of memory. It has no effect if the C library is not glibc.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads this at its first allocation
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, LARGEST)
