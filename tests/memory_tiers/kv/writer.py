"""A process that writes chunk-caches until it is killed: for the test that kills it."""

from __future__ import annotations

import sys
from pathlib import Path

from memory_tiers.kv.chunk_store import ChunkStore, StoreBudget
from tests.memory_tiers.kv.cache_cases import made


def main(folder: Path, disk_bytes: int, count: int) -> None:
    store = ChunkStore(StoreBudget(0, disk_bytes, folder))
    for number in range(count):
        store.put(made(f"chunk {number}", layers=200))
        print(number, flush=True)  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
