"""Host memory that a device copies from at the speed of the link: anonymous, page-locked, and visible to accounting.

It is a memfd, so that its pages can be counted and handed over like any other copy of weights that the node holds. The
pages are touched from several threads before they are locked: one thread would take as long as reading them from disk.
"""

from __future__ import annotations

import mmap
import os
from concurrent.futures import ThreadPoolExecutor

import torch

from .free_memory import available_bytes
from .tier import Refused

_THREADS = 8


class PinnedMemory:
    """`size` bytes of page-locked host memory, until `close`. Raises: Refused."""

    def __init__(self, size: int) -> None:
        available = available_bytes()
        if size > available:
            raise Refused(f"{size} bytes of host memory are needed, {available} are available")
        self.size = size
        self.descriptor = os.memfd_create("coe-packed-weights", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.descriptor, size)
            self._map = mmap.mmap(self.descriptor, size)
            self.bytes = torch.frombuffer(self._map, dtype=torch.uint8)
            self._touch()
            self._lock()
        except (OSError, ValueError, RuntimeError) as error:
            os.close(self.descriptor)
            raise Refused(f"{size} bytes of host memory cannot be had: {error}") from error

    @property
    def address(self) -> int:
        """Where it begins."""
        return int(self.bytes.data_ptr())

    def close(self) -> None:
        """Give the memory back."""
        torch.cuda.cudart().cudaHostUnregister(self.address)
        del self.bytes
        os.close(self.descriptor)
        self._map.close()

    def _touch(self) -> None:
        step = -(-self.size // _THREADS)
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(lambda start: self.bytes[start : start + step].zero_(), range(0, self.size, step)))

    def _lock(self) -> None:
        code = int(torch.cuda.cudart().cudaHostRegister(self.address, self.size, 0))
        if code:
            raise Refused(f"{self.size} bytes cannot be page-locked: cudaHostRegister gave {code}")
