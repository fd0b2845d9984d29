"""A real sleep on vLLM's CPU backend, whose own sleep frees nothing.

Weights hide in two places there. What are still tensors (embeddings, norms, some kernels' packed form) gives its pages
back by `madvise` and keeps its addresses, so nothing that refers to it notices. The matrices of linear layers lie
inside oneDNN primitives, repacked, and the originals are gone: those primitives are destroyed, and made again on wake.
The object that holds a primitive keeps its identity, and so does the tensor with the pointer in it: compiled code
refers to both. The KV pool is given back by `madvise` too; it reads as zeros afterwards and takes memory as it fills.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from . import capture
from .free_memory import available_bytes, own_bytes
from .packed_memory import raw_bytes
from .packing import Packed, pack, tensors_of
from .pages import give_back, storages_of, trim_heap
from .primitives import primitives_of
from .tier import Refused

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch

    from .tier import Report

_SLICE_S = 0.1  # of packing, before whoever asked is to ask again
_SPARE_BYTES = 64 * 1024**2  # beside the weights, a wake needs room for what it works with


class CpuWeights:
    """The WeightTier of one CPU worker."""

    def __init__(self, worker: Any) -> None:  # noqa: ANN401 - vLLM's class, which is not here to be named
        self._runner = worker.model_runner
        self._packed: Packed | None = None
        self._packing: Generator[None, None, Packed] | None = None
        self._asleep = False

    def pack(self) -> Report:
        """See WeightTier."""
        if self._packed is None:
            self._packing = self._packing or pack(self._model(), capture.captured())
            self._go_on(self._packing)
        return self.report()

    def sleep(self) -> Report:
        """See WeightTier."""
        if self._packed is None:
            raise Refused("nothing is packed to wake from")
        if not self._asleep:
            self._asleep = True
            for primitive, _ in self._packed.primitives:
                primitive.destroy()
            for storage, _ in self._packed.tensors:
                give_back(storage)
            for storage in self._kv_storages():
                give_back(storage)
            trim_heap()  # where the primitives lay
        return self.report()

    def wake(self) -> Report:
        """See WeightTier."""
        packed = self._packed
        if self._asleep and packed is not None:
            need_bytes = packed.memory.size_bytes + sum(s.nbytes() for s in self._kv_storages()) + _SPARE_BYTES
            if need_bytes > (free_bytes := available_bytes()):
                raise Refused(f"waking takes {need_bytes} bytes of memory, {free_bytes} are available")
            with packed.memory.mapped() as source:
                for storage, begin in packed.tensors:
                    raw_bytes(storage).copy_(source[begin : begin + storage.nbytes()])
                for primitive, begin in packed.primitives:
                    primitive.create(source[begin : begin + primitive.size_bytes])
            self._asleep = False
        return self.report()

    def release(self) -> Report:
        """See WeightTier."""
        if self._asleep:
            raise Refused("it is asleep: the packed weights are all it has")
        if self._packing is not None:
            self._packing.close()
            self._packing = None
        if self._packed is not None:
            self._packed.memory.close()
            self._packed = None
        if (captured := capture.captured()) is not None:
            captured.give_up()
        return self.report()

    def report(self) -> Report:
        """See WeightTier. own_bytes: what the system says this process has for itself."""
        primitives = list(primitives_of(self._model()))
        tensor_bytes = sum(storage.nbytes() for storage in storages_of(tensors_of(self._model())))
        return {
            "asleep": self._asleep,
            "packing": self._packing is not None,
            "packed_bytes": 0 if self._packed is None else self._packed.memory.size_bytes,
            "weight_bytes": tensor_bytes + sum(primitive.size_bytes for primitive in primitives),
            "primitives": len(primitives),
            "kv_bytes": sum(storage.nbytes() for storage in self._kv_storages()),
            "own_bytes": own_bytes(),
        }

    def _go_on(self, packing: Generator[None, None, Packed]) -> None:
        """Pack for the length of a slice, or to the end."""
        until_s = time.monotonic() + _SLICE_S
        try:
            while time.monotonic() < until_s:
                next(packing)
        except StopIteration as done:
            self._packed, self._packing = done.value, None
        except BaseException:
            self._packing = None
            raise

    def _model(self) -> torch.nn.Module:
        model: torch.nn.Module = self._runner.get_model()
        return model

    def _kv_storages(self) -> list[torch.UntypedStorage]:
        return storages_of(self._runner.kv_caches)
