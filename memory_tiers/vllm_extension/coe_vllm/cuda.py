"""Parking a model's weights in host memory on CUDA: asleep it holds no device memory, awake it is back at link speed.

vLLM's allocator keeps weights and KV cache at fixed addresses over physical memory that can be taken away. Its own
sleep copies the weights to the host each time, and its wake makes memory, maps it, copies and waits, one allocation
after the other. Weights do not change, so here they are copied out once, and a sleep only gives pages back. A wake
queues each copy as soon as its pages are mapped and maps the KV cache while the copies run, so that the link is all it
waits for. The pages come from the expert that has just gone to sleep, if there is a keeper (see `cuda_pages`): new ones
have to be wiped by the driver first, which takes from the copies' time.

The KV cache's content is given up. Whatever else lies beside it (tables that the runner made once) is carried over.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import torch

from .checksum import checksum
from .cuda_allocations import Block, Range, allocations, kv_addresses
from .cuda_driver import OUT_OF_MEMORY, CudaDriver, CudaError
from .cuda_pages import Page, PageSource, pieces
from .launch import KEEPER
from .pinned_memory import PinnedMemory
from .tier import Refused, Report

if TYPE_CHECKING:
    from collections.abc import Sequence


class CudaWeights:
    """The weights and the KV cache of one worker process, which is given; the keeper's socket is in the environment."""

    def __init__(self, worker: Any) -> None:  # noqa: ANN401 - vLLM's, of any version
        self._runner = worker.model_runner
        self._device = device = torch.cuda.current_device()
        self._driver = CudaDriver(device)
        self._source = PageSource(self._driver, os.environ.get(KEEPER))
        self._stream = torch.cuda.Stream(device)
        self._ranges: list[Range] = []
        self._image: PinnedMemory | None = None
        self._checksum = 0
        self._checked = False
        self._exchanged = False
        self._awake = True
        self._registering: threading.Thread | None = None
        self._timings: Report = {}

    def pack(self) -> Report:
        """Copy the weights out, once. Raises: Refused: there is no sleep mode, or no memory."""
        if self._image is not None:
            return self.report()
        if self._exchanged:
            raise Refused("its weights were packed and let go of before; it can only be started anew")
        began_s = time.perf_counter()
        from vllm.device_allocator.cumem import CuMemAllocator  # noqa: PLC0415 - only there where CUDA is

        self._ranges, handles = allocations(CuMemAllocator.get_instance(), kv_addresses(self._runner))
        if not any(r.fixed for r in self._ranges):
            raise Refused("vLLM has no weights in memory that can be parked: it needs --enable-sleep-mode")
        torch.cuda.synchronize(self._device)
        self._image = PinnedMemory(sum(block.size for r in self._ranges for block in r.blocks))
        pinned_s = time.perf_counter()
        self._copy_out(self._ranges)
        copied_s = time.perf_counter()
        self._checksum = self._sum()
        self._exchange(handles)
        self._timings = {
            "pin_s": pinned_s - began_s,
            "copy_out_s": copied_s - pinned_s,
            "exchange_s": time.perf_counter() - copied_s,
        }
        return self.report()

    def sleep(self) -> Report:
        """Give all pages of weights and KV cache back. Raises: Refused: nothing was packed."""
        if self._image is None:
            raise Refused("it cannot sleep before its weights are packed")
        if not self._awake:
            return self.report()
        began_s = time.perf_counter()
        self._registered()
        torch.cuda.synchronize(self._device)
        self._copy_out([r for r in self._ranges if not r.fixed])
        self._give_back()
        torch.cuda.empty_cache()
        self._awake = False
        self._timings = {"sleep_s": time.perf_counter() - began_s}
        return self.report()

    def wake(self) -> Report:
        """Have everything back. Raises: Refused: the memory is not there, or the weights came back wrong."""
        if self._image is None or self._awake:
            return self.report()
        began_s = time.perf_counter()
        self._take()
        mapped_s = time.perf_counter()
        self._stream.synchronize()
        copied_s = time.perf_counter()
        self._verify()
        self._awake = True
        self._runner.post_kv_cache_wake_up()
        self._register()
        self._timings = {
            "map_s": mapped_s - began_s,
            "copy_s": copied_s - began_s,
            "check_s": time.perf_counter() - copied_s,
            "wake_s": time.perf_counter() - began_s,
        }
        return self.report()

    def release(self) -> Report:
        """Give the host copy back. Raises: Refused: asleep, so that it is the only copy."""
        if not self._awake:
            raise Refused("it is asleep: the copy is all there is of its weights")
        image, self._image = self._image, None
        if image is not None:
            image.close()
        return self.report()

    def report(self) -> Report:
        """What is held where, and how long the last verb took, step by step."""
        pages = [page for r in self._ranges for page in r.pages]
        return {
            "asleep": not self._awake,
            "packing": False,
            "packed_bytes": 0 if self._image is None else self._image.size,
            "weight_bytes": sum(page.size for r in self._ranges if r.fixed for page in r.pages),
            "kv_bytes": sum(page.size for r in self._ranges if not r.fixed for page in r.pages),
            "new_pages": sum(page.is_new for page in pages),
            "pages": len(pages),
            **self._timings,
        }

    def _exchange(self, handles: list[tuple[Range, int]]) -> None:
        """Put pages that can be handed over under every range, instead of those that vLLM has made."""
        for r, handle in handles:
            self._driver.unmap(r.address, r.size)
            self._driver.release(handle)
        self._exchanged = True
        try:
            self._take()
            self._stream.synchronize()
            self._verify()
        except Refused as error:  # what vLLM had made is gone already
            raise RuntimeError(f"the weights are lost: {error}") from error
        self._source.register([page for r in self._ranges for page in r.pages])

    def _take(self) -> None:
        """Map pages under every range, weights first, each copy queued at once. Raises: Refused: none is."""
        try:
            self._map_all()
        except CudaError as error:
            self._roll_back()
            if error.code != OUT_OF_MEMORY or not self._source.trim(sum(r.size for r in self._ranges)):
                raise Refused(f"device memory could not be had: {error}") from error
            self._take()  # with what idle pages of other sizes took; the keeper has none left for a third time

    def _map_all(self) -> None:
        pages = self._source.take([size for r in self._ranges for size in pieces(r.size)])
        with contextlib.closing(pages):
            for r in self._ranges:
                while r.mapped < r.size:
                    page = next(pages)
                    r.pages.append(page)
                    self._driver.map(r.address + r.mapped, page.size, page.handle)
                    r.mapped += page.size
                self._driver.allow(r.address, r.size)
                for block in r.blocks:
                    host = self.image.address + block.offset
                    self._driver.copy_in(block.address, host, block.size, self._stream.cuda_stream)

    def _roll_back(self) -> None:
        """Give back what a failed wake has got so far."""
        self._stream.synchronize()
        self._give_back()

    def _give_back(self) -> None:
        """Unmap and give up every page."""
        pages: list[Page] = []
        for r in self._ranges:
            if r.mapped:
                self._driver.unmap(r.address, r.mapped)
            pages += r.pages
            r.pages, r.mapped = [], 0
        self._source.give_back(pages)

    def _register(self) -> None:
        """Tell the keeper of pages that were made here, beside what comes next."""
        new = [page for r in self._ranges for page in r.pages if page.is_new]
        if not new:
            return

        def register() -> None:
            torch.cuda.set_device(self._device)
            self._source.register(new)

        self._registering = threading.Thread(target=register, name="coe-pages", daemon=True)
        self._registering.start()

    def _registered(self) -> None:
        if self._registering is not None:
            self._registering.join()
            self._registering = None

    def _copy_out(self, ranges: Sequence[Range]) -> None:
        for block in (block for r in ranges for block in r.blocks):
            host = self.image.address + block.offset
            self._driver.copy_out(host, block.address, block.size, self._stream.cuda_stream)
        self._stream.synchronize()

    @property
    def image(self) -> PinnedMemory:
        """The host copy. Raises: Refused: nothing was packed."""
        if self._image is None:
            raise Refused("nothing was packed")
        return self._image

    def _sum(self) -> int:
        blocks = (block for r in self._ranges if r.fixed for block in r.blocks)
        return checksum(_bytes_at(block, self._device) for block in blocks)

    def _verify(self) -> None:
        """The first time, see that what came back is what was copied out. Raises: Refused."""
        if self._checked:
            return
        if self._sum() != self._checksum:
            self._give_back()
            raise Refused("the weights came back from host memory with another checksum")
        self._checked = True


class _DeviceArray:
    """Lets torch see device memory that it did not allocate."""

    def __init__(self, address: int, size: int) -> None:
        self.__cuda_array_interface__: dict[str, Any] = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }


def _bytes_at(block: Block, device: int) -> torch.Tensor:
    return torch.as_tensor(_DeviceArray(block.address, block.size), device=f"cuda:{device}")
