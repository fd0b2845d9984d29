"""Layers read ahead of the computing: while one layer is computed with, the next is loaded and checked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from memory_tiers.kv.chunk_cache import Layers
    from memory_tiers.kv.packing import F32


def layers_ahead(caches: Sequence[Layers], layers: int) -> Iterator[list[tuple[F32, F32]]]:
    """For each layer in turn, keys and values of every cache; one layer is on its way while another is in use.

    Raises: CacheDamaged: of a layer, when it is its turn.
    """
    with ThreadPoolExecutor(1, "kv-preload") as reader:

        def read(number: int) -> list[tuple[F32, F32]]:
            return [cache.layer(number) for cache in caches]

        coming = reader.submit(read, 0)
        for number in range(1, layers + 1):
            ready = coming.result()
            if number < layers:
                coming = reader.submit(read, number)
            yield ready
