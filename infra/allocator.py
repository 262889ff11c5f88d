"""Let a process keep the memory that it frees: glibc's allocator, for tensors of many megabytes.

glibc asks the kernel for each block of more than 32 MiB, and gives it back when it is freed. The
kernel fills every page with zeros when it is touched, which takes as long as what a convolution
does with it: on two cores the embedded tower is half as quick.
"""

import ctypes

# From malloc.h; its values are ints.
M_TRIM_THRESHOLD = -1  # bytes that stay at the end of the heap when they are free
M_MMAP_MAX = -4  # blocks that are asked of the kernel one by one
M_ARENA_MAX = -8  # heaps; all but the first one are too small for large blocks
KEPT_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Reuse freed blocks of any size in this process; return whether its allocator can do so.

    At most 2 GiB stay when they are free. Call it before other threads allocate, since a thread
    keeps its heap. Elsewhere than with glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, KEPT_BYTES))
    taken = [mallopt(option, value) for option, value in options]
    return all(taken)
