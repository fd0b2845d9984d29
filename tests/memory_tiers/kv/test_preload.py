from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest

from memory_tiers.kv.cache_file import CacheDamaged
from memory_tiers.kv.chunk_cache import Facts, packed
from memory_tiers.kv.packing import Precision
from memory_tiers.kv.preload import layers_ahead
from tests.memory_tiers.kv.cache_cases import LAYERS, made


@dataclass
class Recorded:
    """Layers whose reading is noted, and whose last one may be damaged."""

    damaged: int = -1
    began: dict[int, threading.Event] = field(default_factory=lambda: {n: threading.Event() for n in range(9)})
    facts: Facts = field(default_factory=lambda: packed(made("c"), Precision.FLOAT32).facts)

    def layer(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        self.began[number].set()
        if number == self.damaged:
            raise CacheDamaged("bad")
        return np.full(1, number, np.float32), np.zeros(1, np.float32)


def test_every_cache_gives_every_layer_in_order() -> None:
    one, other = (packed(made(name), Precision.FLOAT32) for name in "ab")
    for number, both in enumerate(layers_ahead([one, other], LAYERS)):
        for (keys, values), name in zip(both, "ab", strict=True):
            assert np.array_equal(keys, made(name).keys[number])
            assert np.array_equal(values, made(name).values[number])


def test_the_next_layer_is_read_while_one_is_in_use() -> None:
    layers = Recorded()
    for number, [(keys, _)] in enumerate(layers_ahead([layers], 4)):
        assert keys[0] == number
        if number < 3:
            assert layers.began[number + 1].wait(5)  # before this one is given back
        assert not layers.began[number + 2].is_set()


def test_damage_is_told_at_its_turn() -> None:
    seen = []
    with pytest.raises(CacheDamaged, match="bad"):
        for number, _ in enumerate(layers_ahead([Recorded(damaged=2)], 4)):
            seen.append(number)
    assert seen == [0, 1]
