"""Keeping freed memory in the process, so that large tensors do not start as fresh pages at every step."""

from __future__ import annotations

import ctypes
import platform
import warnings
from pathlib import Path

# The parameters of mallopt in glibc's malloc.h. By default a block over 128 KiB to 32 MiB (a limit that adapts) is
# mapped and unmapped each time, and free memory at the end of the heap goes back to the system from 128 KiB on.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4
_LARGEST_KEPT = 2**30
_NEVER = 2**31 - 1  # the largest int
_GROWTH = 2**26  # the heap grows by 64 MiB, not by 128 KiB, so that small objects come less often between large ones

_said: set[str] = set()


def tune_allocator() -> bool:
    """Have the C library keep freed memory for the next tensor instead of giving it back to the system.

    A tensor over 32 MiB is a new mapping each time, and the first touch of its pages can cost more than the arithmetic
    on them; ``docs/memory.md`` has the figures. The price: the process keeps the most memory that it ever used at once
    (blocks of up to 1 GiB), until it ends. Call it once, at the start, before the first large tensor. It holds for the
    whole process, not for other devices' memory, and cannot be undone. The first few steps still fault.

    Returns:
        Whether it took effect: on Linux with glibc, and its own malloc in use. Elsewhere nothing is done, and a
        warning says so once.

    Example:
        >>> import levelhead as lh
        >>> kept = lh.tune_allocator()
    """
    reason = _why_not()
    if reason is None:
        mallopt = ctypes.CDLL(None).mallopt  # returns 1 if it worked
        # Old versions refuse a threshold over 32 MiB; they can map nothing at all.
        kept = mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT) or mallopt(_M_MMAP_MAX, 0)
        if kept and mallopt(_M_TRIM_THRESHOLD, _NEVER) and mallopt(_M_TOP_PAD, _GROWTH):
            return True
        reason = "mallopt refused it"
    if reason not in _said:
        _said.add(reason)
        warnings.warn(f"tune_allocator did nothing: {reason}", stacklevel=2)
    return False


def _why_not() -> str | None:
    """What stands in the way; None for nothing."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return f"it is for Linux with glibc, and this is {platform.system()} {platform.libc_ver()[0]}".rstrip()
    loaded = _loaded()  # where another is preloaded, mallopt would succeed and change nothing
    other = next((name for name in ("jemalloc", "tcmalloc", "mimalloc") if name in loaded), None)
    return None if other is None else f"{other} is in the place of glibc's malloc"


def _loaded() -> str:
    """The files that are mapped into this process."""
    try:
        return Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no /proc: then nobody can tell
        return ""
