"""Writers are killed with SIGKILL, for real, while they write and evict; whoever comes next finds a readable store."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from memory_tiers.kv.cache_file import OpenCache
from memory_tiers.kv.chunk_key import ChunkKey
from memory_tiers.kv.chunk_store import ChunkStore, StoreBudget
from tests.memory_tiers.kv.cache_cases import key, made

LAYERS = 200
ONE = 2 * LAYERS * 8 * 2 * 4 * 4
ROOM = 6 * ONE
KILLS = 8


def test_a_store_survives_the_death_of_its_writers(tmp_path: Path) -> None:
    rng, kept, cut_short = random.Random(5), 0, 0  # noqa: S311 - moments to kill at
    for _ in range(KILLS):
        command = [sys.executable, "-m", "tests.memory_tiers.kv.writer", str(tmp_path), str(ROOM), "100000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"0\n"  # it is up and has written
            time.sleep(rng.uniform(0, 0.03))
            writer.kill()
        cut_short += bool(list(tmp_path.glob("*/*.part")))
        store = ChunkStore(StoreBudget(0, ROOM, tmp_path))
        assert store.disk is not None
        assert list(tmp_path.glob("*/*.part")) == []
        assert store.disk.used_bytes() <= ROOM
        for path in tmp_path.glob("*/*.kv"):
            chunk, _, variant = path.stem.partition("-")
            cache = OpenCache(path, ChunkKey(chunk), variant)  # raises on damage
            for layer in range(LAYERS):
                cache.layer(layer)
            cache.close()
            kept += 1
        assert store.put(made("after", layers=LAYERS))
        with store.hold([each.facts for each in store.variants(key("after"))]) as held:
            assert held[0] is not None
            assert np.array_equal(held[0].layers.layer(7)[0], made("after", layers=LAYERS).keys[7])
    assert kept >= KILLS
    assert cut_short >= 1, "no kill fell into a writing: the test shows nothing"
