"""Chunk-caches made up for tests: small, and told apart by their seed."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from memory_tiers.kv.chunk_cache import ChunkCache
from memory_tiers.kv.chunk_key import ChunkKey, ModelIdentity, chunk_key
from memory_tiers.kv.reuse import ChunkStatistics

MODEL = ModelIdentity("m", "t", "float32", "r")
LAYERS, TOKENS, HEADS, DIM = 2, 8, 2, 4
CACHE_BYTES = 2 * LAYERS * TOKENS * HEADS * DIM * 4


def key(name: str, tenant: str = "acme") -> ChunkKey:
    return chunk_key(MODEL, tenant, list(name.encode()))


def made(
    name: str, prefix: Sequence[str] = (), *, tenant: str = "acme", work_s: float = 1.0, layers: int = LAYERS
) -> ChunkCache:
    """The same name and prefix give the same numbers."""
    seed = int.from_bytes(sha256(f"{name}/{prefix}/{tenant}".encode()).digest()[:4], "big")
    rng = np.random.default_rng(seed)
    keys, values = rng.standard_normal((2, layers, TOKENS, HEADS, DIM), dtype=np.float32)
    statistics = ChunkStatistics(
        tuple(key(each, tenant) for each in prefix),
        rng.random(len(prefix), dtype=np.float32),
        0.1,
        0.2,
        rng.random(TOKENS, dtype=np.float32),
    )
    return ChunkCache(key(name, tenant), statistics, keys, values, work_s)
