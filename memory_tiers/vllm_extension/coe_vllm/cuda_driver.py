"""The few calls of the CUDA driver that move physical memory under an address, by ctypes: no compiler is needed.

An address range is reserved once and stays; physical memory is created, mapped into it and taken away again. The calls
act on the calling thread's current context, which is the one that torch made.
"""

from __future__ import annotations

import ctypes
from functools import cached_property

OUT_OF_MEMORY = 2
_PINNED = 1  # CU_MEM_ALLOCATION_TYPE_PINNED
_ON_DEVICE = 1  # CU_MEM_LOCATION_TYPE_DEVICE
_READ_WRITE = 3  # CU_MEM_ACCESS_FLAGS_PROT_READWRITE
_FILE_DESCRIPTOR = 1  # CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR

_U64, _SIZE, _INT = ctypes.c_uint64, ctypes.c_size_t, ctypes.c_int


class CudaError(RuntimeError):
    """A call of the driver failed. code: the driver's own number."""

    def __init__(self, call: str, code: int, name: str) -> None:
        self.code = code
        super().__init__(f"{call}: {name}")


class _Location(ctypes.Structure):
    _fields_ = (("type", _INT), ("id", _INT))


class _Flags(ctypes.Structure):
    _fields_ = (
        ("compression", ctypes.c_ubyte),
        ("rdma", ctypes.c_ubyte),
        ("usage", ctypes.c_ushort),
        ("reserved", ctypes.c_ubyte * 4),
    )


class _Properties(ctypes.Structure):
    """CUmemAllocationProp."""

    _fields_ = (
        ("type", _INT),
        ("handle_types", _INT),
        ("location", _Location),
        ("win32", ctypes.c_void_p),
        ("flags", _Flags),
    )


class _Access(ctypes.Structure):
    """CUmemAccessDesc."""

    _fields_ = (("location", _Location), ("flags", _INT))


class CudaDriver:
    """Physical memory of one device. Every method raises CudaError where the driver refuses."""

    def __init__(self, device: int) -> None:
        location = _Location(_ON_DEVICE, device)
        self._properties = _Properties(type=_PINNED, handle_types=_FILE_DESCRIPTOR, location=location)
        self._access = _Access(location, _READ_WRITE)

    def create(self, size: int) -> int:
        """Take physical memory; gives its handle. size: a multiple of 2 MiB."""
        handle = _U64()
        self._call("cuMemCreate", ctypes.byref(handle), _SIZE(size), ctypes.byref(self._properties), _U64(0))
        return handle.value

    def map(self, address: int, size: int, handle: int) -> None:
        """Put physical memory under a reserved address; nobody may touch it before `allow`."""
        self._call("cuMemMap", _U64(address), _SIZE(size), _SIZE(0), _U64(handle), _U64(0))

    def allow(self, address: int, size: int) -> None:
        """Make mapped memory readable and writable."""
        self._call("cuMemSetAccess", _U64(address), _SIZE(size), ctypes.byref(self._access), _SIZE(1))

    def unmap(self, address: int, size: int) -> None:
        """Take the memory away from under addresses, all pages in them whole; the addresses stay reserved."""
        self._call("cuMemUnmap", _U64(address), _SIZE(size))

    def release(self, handle: int) -> None:
        """Give a handle up; the memory goes back once nothing maps it and no other handle has it."""
        self._call("cuMemRelease", _U64(handle))

    def export(self, handle: int) -> int:
        """A file descriptor that keeps the memory alive and that another process can import."""
        descriptor = _INT()
        self._call(
            "cuMemExportToShareableHandle", ctypes.byref(descriptor), _U64(handle), _INT(_FILE_DESCRIPTOR), _U64(0)
        )
        return descriptor.value

    def import_(self, descriptor: int) -> int:
        """The handle of memory that another process exported; the descriptor may be closed afterwards."""
        handle = _U64()
        self._call(
            "cuMemImportFromShareableHandle", ctypes.byref(handle), ctypes.c_void_p(descriptor), _INT(_FILE_DESCRIPTOR)
        )
        return handle.value

    def copy_in(self, address: int, host_address: int, size: int, stream: int) -> None:
        """Queue a copy from pinned host memory to the device."""
        self._call(
            "cuMemcpyHtoDAsync_v2", _U64(address), ctypes.c_void_p(host_address), _SIZE(size), ctypes.c_void_p(stream)
        )

    def copy_out(self, host_address: int, address: int, size: int, stream: int) -> None:
        """Queue a copy from the device to pinned host memory."""
        self._call(
            "cuMemcpyDtoHAsync_v2", ctypes.c_void_p(host_address), _U64(address), _SIZE(size), ctypes.c_void_p(stream)
        )

    def free_bytes(self) -> int:
        """Device memory that nobody has, other processes included."""
        free, total = _SIZE(), _SIZE()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(text))
            raise CudaError(name, code, (text.value or b"unknown").decode())

    @cached_property
    def _library(self) -> ctypes.CDLL:
        return ctypes.CDLL("libcuda.so.1")
