"""Memory of the process: buffers that are freed at every step are kept for the next one.

A training step on a CPU frees and takes the same buffers of tens of megabytes again and again. By default the C library gives such
memory back to the system each time, and the system clears every page of it anew.
"""

from __future__ import annotations

import ctypes
import os

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # names of glibc's mallopt
LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Ask the allocators to reuse freed memory and to take large pages. To be called before torch is loaded.

    Changes no result; costs about 100 MB. Without effect where the C library is not glibc.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by torch when it takes memory for the first time
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, LARGEST)
