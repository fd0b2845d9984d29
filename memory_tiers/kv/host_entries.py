"""Chunk-caches in this process's memory, up to a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from experts.errors import TierFull

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memory_tiers.kv.chunk_cache import PackedCache
    from memory_tiers.kv.chunk_key import ChunkKey
    from memory_tiers.kv.worth import Worth


@dataclass(slots=True, eq=False)
class _Entry:
    cache: PackedCache
    holders: int = 0


class HostEntries:
    """Owns them. Not locked: the store is."""

    def __init__(self, budget_bytes: int, worth: Worth) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._worth = worth
        self._entries: dict[str, _Entry] = {}
        self._of_chunk: dict[ChunkKey, set[str]] = {}

    def __contains__(self, variant: str) -> bool:
        return variant in self._entries

    def of(self, chunk: ChunkKey) -> Iterator[PackedCache]:
        """The variants of a chunk."""
        return (self._entries[variant].cache for variant in self._of_chunk.get(chunk, ()))

    def hold(self, variant: str) -> PackedCache | None:
        """Take it and keep it from eviction; None: it is not here."""
        entry = self._entries.get(variant)
        if entry is None:
            return None
        entry.holders += 1
        return entry.cache

    def release(self, variant: str) -> None:
        """Undo one `hold`."""
        self._entries[variant].holders -= 1

    def put(self, cache: PackedCache, now_s: float) -> bool:
        """Keep it, in the place of what is worth least; False: what is held leaves no room for it."""
        variant, size = cache.facts.variant, cache.facts.size_bytes
        if variant in self._entries:
            return True
        if size > self.budget_bytes:
            return False
        idle = [
            (name, entry.cache.facts.size_bytes, entry.cache.facts.work_s)
            for name, entry in self._entries.items()
            if not entry.holders
        ]
        try:
            victims = self._worth.victims(idle, self.used_bytes + size - self.budget_bytes, now_s)
        except TierFull:
            return False
        for victim in victims:
            self._drop(victim)
        self._entries[variant] = _Entry(cache)
        self._of_chunk.setdefault(cache.facts.chunk, set()).add(variant)
        self.used_bytes += size
        return True

    def _drop(self, variant: str) -> None:
        facts = self._entries.pop(variant).cache.facts
        self.used_bytes -= facts.size_bytes
        self._of_chunk[facts.chunk].discard(variant)
        if not self._of_chunk[facts.chunk]:
            del self._of_chunk[facts.chunk]

    def check_invariants(self) -> None:
        """Raise AssertionError if the books are wrong; tests call it."""
        taken = sum(len(block) for entry in self._entries.values() for block in entry.cache.blocks)
        if not taken == self.used_bytes <= self.budget_bytes:
            raise AssertionError(f"{self.used_bytes} bytes are booked, {taken} taken, of {self.budget_bytes}")
        if any(entry.holders < 0 for entry in self._entries.values()):
            raise AssertionError("an entry has fewer than no holders")
        if {v for variants in self._of_chunk.values() for v in variants} != set(self._entries):
            raise AssertionError("the index is not of the entries")
