"""Keeps chunk-caches in host memory and on disk, each up to its budget. The device's copies are the engine's.

A variant that is computed goes to both tiers; one that is read from disk in full comes up to memory again. While one
is held, no process evicts it. Threads may share a store, processes its folder.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memory_tiers.kv.cache_file import CacheDamaged, OpenCache
from memory_tiers.kv.chunk_cache import ChunkCache, Facts, packed
from memory_tiers.kv.disk_entries import DiskEntries
from memory_tiers.kv.host_entries import HostEntries
from memory_tiers.kv.packing import Precision
from memory_tiers.kv.worth import Worth
from memory_tiers.types import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from memory_tiers.kv.chunk_cache import Layers
    from memory_tiers.kv.chunk_key import ChunkKey
    from memory_tiers.kv.packing import F32


@dataclass(frozen=True, slots=True)
class StoreBudget:
    """Bytes of each tier, and where the disk's are. host_bytes 0, disk_bytes 0 or no folder: nothing is kept there."""

    host_bytes: int
    disk_bytes: int = 0
    folder: Path | None = None

    def __post_init__(self) -> None:
        for name in ("host_bytes", "disk_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} must be 0 or more")


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A variant that is kept, and the fastest tier that has it."""

    facts: Facts
    tier: Tier


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A variant that stays while it is held. tier: where its layers come from."""

    layers: Layers
    tier: Tier


class ChunkStore:
    """Owns the chunk-caches of this process and, with others, those of the folder. clock: seconds since 1970."""

    def __init__(
        self,
        budget: StoreBudget,
        *,
        precision: Precision = Precision.FLOAT32,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._precision, self._clock = precision, clock
        self._lock = threading.RLock()
        self._worth = Worth()
        self.host = HostEntries(budget.host_bytes, self._worth)
        self.disk: DiskEntries | None = None
        if budget.folder is not None and budget.disk_bytes:
            self.disk = DiskEntries(budget.folder, budget.disk_bytes, self._worth)
        self._facts: dict[str, Facts] = {}  # of files, whose heads are read once

    def variants(self, chunk: ChunkKey) -> list[Known]:
        """All that is kept of a chunk, by whichever process; damaged ones are removed and not among them."""
        with self._lock:
            found = [Known(cache.facts, Tier.HOST) for cache in self.host.of(chunk)]
            if self.disk is not None:
                facts = [self._facts_on_disk(chunk, name) for name in self.disk.of(chunk) if name not in self.host]
                found += [Known(each, Tier.DISK) for each in facts if each is not None]
            return found

    @contextmanager
    def hold(self, wanted: Sequence[Facts]) -> Iterator[list[Held | None]]:
        """Keep them from eviction for the body; None stands for one that is gone or damaged.

        Raises, from the body: CacheDamaged: a layer is not what was kept. The file is removed: hold again without it.
        """
        with ExitStack() as stack:
            held = [self._take(facts, stack) for facts in wanted]
            yield held
            self._promote([each.layers for each in held if each is not None])

    def put(self, cache: ChunkCache) -> frozenset[Tier]:
        """Keep a variant that was computed, and tell where. One that is kept already stays as it is."""
        ready, now_s = packed(cache, self._precision), self._clock()
        with self._lock:
            self._worth.used(ready.facts.variant, now_s)
            kept = {Tier.HOST} if self.host.put(ready, now_s) else set()
            if self.disk is not None and self.disk.put(ready, now_s):
                kept.add(Tier.DISK)
            return frozenset(kept)

    def _facts_on_disk(self, chunk: ChunkKey, variant: str) -> Facts | None:
        if variant not in self._facts:
            cache = self.disk.open(chunk, variant) if self.disk is not None else None
            if cache is None:
                return None
            cache.close()
            self._facts[variant] = cache.facts
        return self._facts[variant]

    def _take(self, facts: Facts, stack: ExitStack) -> Held | None:
        variant, now_s = facts.variant, self._clock()
        with self._lock:
            self._worth.used(variant, now_s)
            cache = self.host.hold(variant)
            if cache is not None:
                stack.callback(self._release, variant)
                return Held(cache, Tier.HOST)
            opened = self.disk.open(facts.chunk, variant) if self.disk is not None else None
            if self.disk is None or opened is None:
                self._facts.pop(variant, None)
                return None
            self.disk.touch(facts.chunk, variant, now_s)
            stack.callback(opened.close)
            return Held(_Watched(opened, self), Tier.DISK)

    def _release(self, variant: str) -> None:
        with self._lock:
            self.host.release(variant)

    def _promote(self, layers: Sequence[Layers]) -> None:
        with self._lock:
            for each in layers:
                whole = each.opened.whole() if isinstance(each, _Watched) else None
                if whole is not None:
                    self.host.put(whole, self._clock())

    def forget_damaged(self, opened: OpenCache, error: CacheDamaged) -> None:
        """Remove a file whose layers are not what was kept."""
        with self._lock:
            self._facts.pop(opened.facts.variant, None)
            if self.disk is not None:
                self.disk.remove_damaged(opened.path, error)


@dataclass(frozen=True, slots=True, eq=False)
class _Watched:
    """An open file whose damage the store is told of."""

    opened: OpenCache
    store: ChunkStore

    @property
    def facts(self) -> Facts:
        return self.opened.facts

    def layer(self, number: int) -> tuple[F32, F32]:
        try:
            return self.opened.layer(number)
        except CacheDamaged as error:
            self.store.forget_damaged(self.opened, error)
            raise
