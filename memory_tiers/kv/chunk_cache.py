"""The keys and values of one chunk as computed behind one prefix: in arrays, or packed layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from memory_tiers.kv.chunk_key import ChunkKey, variant_key
from memory_tiers.kv.packing import Precision, Shape, pack_layer, unpack_layer

if TYPE_CHECKING:
    from memory_tiers.kv.packing import F32
    from memory_tiers.kv.reuse import ChunkStatistics


@dataclass(frozen=True, slots=True, eq=False)
class ChunkCache:
    """A variant in full. keys: before rotation, so that they serve at any position. work_s: what computing it took.

    Shapes: keys and values (layers, tokens, heads, head_dim).
    """

    chunk: ChunkKey
    statistics: ChunkStatistics
    keys: F32
    values: F32
    work_s: float

    def __post_init__(self) -> None:
        if self.keys.shape != self.values.shape or self.keys.ndim != 4:  # noqa: PLR2004 - the four of the docstring
            raise ValueError(f"keys {self.keys.shape} and values {self.values.shape} must have the same four axes")
        if self.keys.shape[1] != self.statistics.tokens:
            raise ValueError(f"keys {self.keys.shape} are of other tokens than {self.statistics.tokens} statistics")


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """All that is known of a variant beside its numbers."""

    chunk: ChunkKey
    statistics: ChunkStatistics
    shape: Shape
    precision: Precision
    work_s: float

    @property
    def variant(self) -> str:
        """Its name in the store."""
        return variant_key(self.chunk, self.statistics.prefix, exact=self.statistics.exact)

    @property
    def size_bytes(self) -> int:
        """What its layers take."""
        return self.shape.layers * self.shape.layer_bytes(self.precision)


class Layers(Protocol):
    """A variant that can be read layer by layer."""

    @property
    def facts(self) -> Facts:
        """What it is."""

    def layer(self, number: int) -> tuple[F32, F32]:
        """Keys and values of one layer. Raises: CacheDamaged: they are not what was kept."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedCache:
    """A variant in memory, one block of bytes a layer."""

    facts: Facts
    blocks: tuple[bytes, ...]

    def layer(self, number: int) -> tuple[F32, F32]:
        """Keys and values of one layer."""
        return unpack_layer(self.blocks[number], self.facts.shape, self.facts.precision)


def packed(cache: ChunkCache, precision: Precision) -> PackedCache:
    """Pack every layer."""
    facts = Facts(cache.chunk, cache.statistics, Shape(*cache.keys.shape), precision, cache.work_s)
    both = zip(cache.keys, cache.values, strict=True)
    return PackedCache(facts, tuple(pack_layer(keys, values, precision) for keys, values in both))
