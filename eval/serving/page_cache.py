"""The system's cache of files: dropped for one file, and looked into to see that it is."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_FAILED: Final = ctypes.c_void_p(-1).value


class StillCached(RuntimeError):
    """A file that another process maps or reads stays in the cache, so no start from the disk can be measured."""


def forget(path: Path) -> None:
    """Drop the file from the page cache. Raises: StillCached: more than a hundredth of it is there afterwards."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # a page that is not written yet cannot be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    if cached_bytes(path) > path.stat().st_size // 100:
        raise StillCached(f"{path.name} stays in the page cache: another process has it mapped")


def cached_bytes(path: Path) -> int:
    """How much of the file is in the page cache, by mincore(2); whoever asks must own the file."""
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    resident = ctypes.create_string_buffer(-(-size_bytes // mmap.PAGESIZE))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        address = libc.mmap(None, size_bytes, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    finally:
        os.close(descriptor)
    if address == _FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    failed = libc.mincore(address, size_bytes, resident)
    libc.munmap(address, size_bytes)
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    return sum(page & 1 for page in resident.raw) * mmap.PAGESIZE
