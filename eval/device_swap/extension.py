"""The product's worker extension, and beside it a verb that tells what the link can do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from coe_vllm.extension import WorkerExtension, tier_of

if TYPE_CHECKING:
    from coe_vllm.cuda import CudaWeights

_ROUNDS = 5


class MeasuredExtension(WorkerExtension):  # type: ignore[misc]  # found inside vLLM only, by its path
    """Loaded by the benchmark instead of the product's own."""

    def coe_link(self) -> list[float]:
        """GB/s of copies of the whole host image into memory that is there already; the first, which is slower, not."""
        weights: CudaWeights = tier_of(self)
        memory = torch.empty(weights.image.size, dtype=torch.uint8, device="cuda")
        rates = []
        for _ in range(_ROUNDS + 1):
            torch.cuda.synchronize()
            began_s = time.perf_counter()
            memory.copy_(weights.image.bytes, non_blocking=True)
            torch.cuda.synchronize()
            rates.append(weights.image.size / (time.perf_counter() - began_s) / 1e9)
        del memory
        torch.cuda.empty_cache()
        return rates[1:]
