"""Pages of memory, given back to the system without giving up their addresses."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

_MADV_DONTNEED = 4  # Linux's number for it


def storages_of(tensors: Iterable[object]) -> list[torch.UntypedStorage]:
    """The memory behind tensors of this machine, lists of them included, each once; what is no tensor is left out."""
    found: dict[int, torch.UntypedStorage] = {}
    for tensor in tensors:
        if isinstance(tensor, (list, tuple)):
            found.update({storage.data_ptr(): storage for storage in storages_of(tensor)})
        elif isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
            storage = tensor.untyped_storage()
            if storage.nbytes():
                found[storage.data_ptr()] = storage
    return list(found.values())


def give_back(storage: torch.UntypedStorage) -> None:
    """Free the whole pages of it; they read as zeros until they are written again. Raises: OSError."""
    begin = -(-storage.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (storage.data_ptr() + storage.nbytes()) // mmap.PAGESIZE * mmap.PAGESIZE
    if end <= begin:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_DONTNEED):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def trim_heap() -> None:
    """Give back what was freed but lies in the C library's own stock."""
    ctypes.CDLL(None).malloc_trim(0)
