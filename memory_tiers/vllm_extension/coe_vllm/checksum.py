"""A checksum of device memory, computed where it lies: 16 GB in some ten milliseconds, whatever the link does.

Each 8-byte word is multiplied by an odd number of its place in a block, each block's sum by an odd number of the
block's place, all modulo 2**64: a word that changed, moved or is missing changes the sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

_BLOCK_WORDS = 8 << 20  # 64 MiB
_SEED = 0x5DEECE66D
_MIX = -7046029254386353131  # 2**64 / the golden ratio, odd, as a signed number


def checksum(memories: Iterable[torch.Tensor]) -> int:
    """Sum the bytes of several tensors, in their order. Each is of bytes, flat, a multiple of 8 long."""
    total, place, factors = 0, 0, None
    for memory in memories:
        words = memory.view(torch.int64)
        if factors is None:
            factors = _factors(min(_BLOCK_WORDS, 1 << 23), words.device)
        for block in words.split(_BLOCK_WORDS):
            place += 1
            total += int((block * factors[: block.numel()]).sum().item()) * ((place * _MIX) | 1)
    return total % 2**64


def _factors(count: int, device: torch.device) -> torch.Tensor:
    """Odd numbers that differ; the same on every device and in every run."""
    places = torch.arange(1, count + 1, dtype=torch.int64, device=device)
    return (places * _MIX + _SEED) | 1
