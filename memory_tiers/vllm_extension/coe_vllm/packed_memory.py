"""Tensors packed into one sealed memfd: shared memory with no name in any file system, that nobody can write any more.

It counts as `Shmem` in the system's books and goes back when the last descriptor closes, also when its process dies.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .free_memory import available_bytes
from .tier import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

ALIGN_BYTES = 512
_COMPARE_BYTES = 4 * 1024**2
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def raw_bytes(storage: torch.UntypedStorage) -> torch.Tensor:
    """A storage as bytes. Shapes: (storage's bytes,), uint8; it shares the memory."""
    import torch  # noqa: PLC0415 - the extension is imported, and tried, where there is none

    return torch.empty(0, dtype=torch.uint8).set_(storage, 0, (storage.nbytes(),), (1,))


def aligned(size_bytes: int) -> int:
    """The size up to where the next tensor begins."""
    return -(-size_bytes // ALIGN_BYTES) * ALIGN_BYTES


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    first = tensor.storage_offset() * tensor.element_size()
    raw = raw_bytes(tensor.untyped_storage())[first : first + tensor.numel() * tensor.element_size()]
    return memoryview(raw.numpy())


class PackedMemory:
    """Filled once, in order, by `append`; read through `mapped` after `seal`."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("coe-packed-weights", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.size_bytes = 0

    def append(self, tensor: torch.Tensor) -> int:
        """Copy a contiguous tensor in, and tell where it begins. Raises: Refused: memory ended."""
        piece = _bytes_of(tensor)
        if piece.nbytes > (free_bytes := available_bytes()):
            raise Refused(f"of the packed weights {piece.nbytes} bytes find no memory, {free_bytes} are available")
        offset, self.size_bytes = self.size_bytes, self.size_bytes + aligned(piece.nbytes)
        at = offset
        try:
            while piece:  # by `write`, not through a mapping: where memory ends, that is an error and not a signal
                written = os.pwrite(self._descriptor, piece, at)
                piece, at = piece[written:], at + written
        except OSError as error:
            raise Refused(f"the packed weights: {error.strerror or error}") from error
        return offset

    def holds(self, offset: int, tensor: torch.Tensor) -> bool:
        """Whether a contiguous tensor's very bytes lie there."""
        wanted = _bytes_of(tensor)
        pieces = range(0, wanted.nbytes, _COMPARE_BYTES)
        return all(
            os.pread(self._descriptor, min(_COMPARE_BYTES, wanted.nbytes - at), offset + at)
            == wanted[at : at + _COMPARE_BYTES]
            for at in pieces
        )

    def seal(self) -> None:
        """No more changes."""
        os.ftruncate(self._descriptor, self.size_bytes)
        fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, _SEALS)

    @contextmanager
    def mapped(self) -> Iterator[torch.Tensor]:
        """The bytes, uint8, for the body only. Shapes: (size_bytes,)."""
        mapping = mmap.mmap(self._descriptor, self.size_bytes, access=mmap.ACCESS_COPY)  # a sealed file takes no other
        try:
            import torch  # noqa: PLC0415 - as above

            yield torch.frombuffer(mapping, dtype=torch.uint8)
        finally:
            mapping.madvise(mmap.MADV_DONTNEED)  # pages that were looked at would count as this process's

    def close(self) -> None:
        """Give the memory back."""
        os.close(self._descriptor)
