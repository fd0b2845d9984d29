"""An expert's weights in host memory: a sealed memfd, which a worker loads from instead of the disk.

The copy is checked while it is made, so a file that changed on the disk since it was pulled is found here. Its pages
are shared memory: they have no name in any file system, count as `Shmem`, and go back when the last descriptor closes.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import os
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from experts.backends.host_memory import available_bytes
from experts.errors import ExpertStartFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from experts.types import ExpertSpec, WeightsSpec

_log = logging.getLogger(__name__)
_CHUNK_BYTES: Final = 1024**2  # a chunk is hashed while the processor's cache still has it
_FORGET_BYTES: Final = 32 * 1024**2  # how much of the file the page cache may hold beside the copy
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class HostWeights:
    """Owns the staged copy of one expert's weights; there is one at most."""

    def __init__(self, spec: ExpertSpec, path: Path) -> None:
        self._expert_id = spec.id
        self._weights = spec.weights
        self._path = path
        self._descriptor: int | None = None
        self._one_at_a_time = asyncio.Lock()
        self._lent = asyncio.Lock()
        self._give_up = threading.Event()  # the fill that runs now ends at its next chunk

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[int | None]:
        """The memfd, for a child process to inherit and to close before the body ends; None while nothing is held."""
        if self._descriptor is None:
            yield None
            return
        async with self._lent:
            yield self._descriptor

    async def hold(self) -> None:
        """Copy the file into memory, unless that was done. Cancellation leaves nothing held.

        Raises: ExpertStartFailed: the file is missing or another one, or there is no memory for it.
        """
        async with self._one_at_a_time:
            if self._descriptor is not None or self._weights is None:
                return
            self._give_up = give_up = threading.Event()
            try:
                self._descriptor = await _in_a_thread(self._path, self._weights, give_up)
            except _Refused as refused:
                raise ExpertStartFailed(self._expert_id, f"its weights cannot be staged: {refused}") from refused

    async def release(self) -> None:
        """Give the copy's memory back, once nobody it is lent to reads it; a fill in progress is given up."""
        self._give_up.set()
        async with self._one_at_a_time, self._lent:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                await asyncio.to_thread(os.close, descriptor)  # freeing gigabytes of pages takes its time


class _Refused(Exception):
    """Why there is no copy."""


async def _in_a_thread(path: Path, weights: WeightsSpec, give_up: threading.Event) -> int:
    """`_fill` beside the event loop. Cancellation waits until the thread has let go."""
    fill = asyncio.ensure_future(asyncio.to_thread(_fill, path, weights, give_up))
    try:
        return await asyncio.shield(fill)
    except asyncio.CancelledError:
        give_up.set()
        fill.add_done_callback(_close_unwanted)
        await asyncio.wait({fill})
        raise


def _close_unwanted(fill: asyncio.Future[int]) -> None:
    """The fill was complete just before it was to be given up."""
    if not fill.cancelled() and fill.exception() is None:
        os.close(fill.result())


def _fill(path: Path, weights: WeightsSpec, give_up: threading.Event) -> int:
    """A sealed memfd with the file's bytes. Blocks. Raises: _Refused."""
    if not hasattr(os, "memfd_create"):  # pragma: no cover - Linux has it
        raise _Refused("this system has no anonymous files")
    try:
        memory = os.memfd_create(f"coe-{weights.sha256[:12]}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            _copy_checked(path, memory, weights, give_up)
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
        except BaseException:
            os.close(memory)
            raise
    except FileNotFoundError as error:
        raise _Refused(f"{path.name} is missing; `coe experts pull`") from error
    except OSError as error:
        raise _Refused(f"{path.name}: {error.strerror or error}") from error
    return memory


def _copy_checked(path: Path, memory: int, weights: WeightsSpec, give_up: threading.Event) -> None:
    """Copy the whole file. Raises: _Refused: it is not the one that was asked for, or no memory is free; OSError."""
    with path.open("rb", buffering=0) as source:
        size_bytes = os.fstat(source.fileno()).st_size
        if size_bytes != weights.size_bytes:
            raise _Refused(f"{path.name} has {size_bytes} bytes, expected {weights.size_bytes}; `coe experts pull`")
        if size_bytes > (free_bytes := available_bytes()):
            raise _Refused(f"{path.name} takes {size_bytes} bytes of memory, {free_bytes} are available")
        sha256 = _copy(source.fileno(), memory, give_up)
    if sha256 != weights.sha256:
        _log.error("%s changed since it was pulled: sha256 is %s, expected %s", path, sha256, weights.sha256)
        raise _Refused(f"{path.name} changed since it was pulled: sha256 is {sha256}, expected {weights.sha256}")


def _copy(source: int, memory: int, give_up: threading.Event) -> str:
    """Copy from one descriptor to the other, and tell the sha256 of what was copied. Raises: _Refused; OSError.

    By `write`, not through a mapping: where memory ends, that is an error and not a signal. What was read leaves the
    page cache at once, or the same bytes would be held twice.
    """
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    digest, copied_bytes = hashlib.sha256(), 0
    while count := os.preadv(source, [buffer], copied_bytes):
        if give_up.is_set():
            raise _Refused("it was given up meanwhile")
        digest.update(buffer[:count])
        _write_all(memory, buffer[:count])
        copied_bytes += count
        if copied_bytes % _FORGET_BYTES == 0:
            os.posix_fadvise(source, 0, copied_bytes, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(source, 0, 0, os.POSIX_FADV_DONTNEED)
    return digest.hexdigest()


def _write_all(memory: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(memory, piece) :]
