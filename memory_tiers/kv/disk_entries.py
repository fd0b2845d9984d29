"""Chunk-caches as files of a folder that several processes may share, up to a budget.

One process writes at a time, under the lock of the folder; who is killed gives it back, and what it had begun is
removed by the next. Whoever reads a file locks it, shared: eviction, which needs the lock alone, passes it over.
"""

from __future__ import annotations

import fcntl
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from experts.errors import TierFull
from memory_tiers.kv.cache_file import CacheDamaged, OpenCache, write_cache
from memory_tiers.kv.chunk_key import ChunkKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from memory_tiers.kv.chunk_cache import PackedCache
    from memory_tiers.kv.worth import Worth

_log = logging.getLogger(__name__)
_LOCK: Final = ".lock"
_PART: Final = ".part"
_SUFFIX: Final = ".kv"
_SPREAD: Final = 2  # characters of the key that choose the subfolder


class DiskEntries:
    """Owns the folder, together with the other processes that do."""

    def __init__(self, folder: Path, budget_bytes: int, worth: Worth) -> None:
        self.folder = folder
        self.budget_bytes = budget_bytes
        self._worth = worth
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._sole_writer():
            self._sweep()

    def of(self, chunk: ChunkKey) -> list[str]:
        """The names of the variants of a chunk, whoever wrote them."""
        try:
            with os.scandir(self.folder / chunk[:_SPREAD]) as files:
                names = [file.name for file in files]
        except OSError:
            return []
        start = f"{chunk}-"
        return [name[len(start) : -len(_SUFFIX)] for name in names if name.startswith(start) and name.endswith(_SUFFIX)]

    def open(self, chunk: ChunkKey, variant: str) -> OpenCache | None:
        """Open a variant and keep it from eviction; None: it is not there, or was damaged and is now removed."""
        path = self._path(chunk, variant)
        try:
            return OpenCache(path, chunk, variant)
        except CacheDamaged as error:
            self.remove_damaged(path, error)
        except FileNotFoundError:
            pass
        except OSError as error:  # too many open files, say: it may be there again
            _log.warning("a chunk-cache cannot be read: %s", error)
        return None

    def remove_damaged(self, path: Path, error: Exception) -> None:
        """Remove a file that cannot be used, and say so."""
        _log.warning("a chunk-cache is removed: %s", error)
        path.unlink(missing_ok=True)

    def touch(self, chunk: ChunkKey, variant: str, now_s: float) -> None:
        """Note a use where the other processes see it."""
        try:
            os.utime(self._path(chunk, variant), (now_s, now_s))
        except OSError:
            return  # gone meanwhile

    def put(self, cache: PackedCache, now_s: float) -> bool:
        """Keep it, in the place of what is worth least; False: what is in use leaves no room, or the disk refuses."""
        path = self._path(cache.facts.chunk, cache.facts.variant)
        if path.exists():
            return True
        try:
            with self._sole_writer():
                self._sweep()
                self._write(path, cache, now_s)
        except (OSError, TierFull) as error:
            _log.warning("a chunk-cache is not kept on disk: %s", error)
            return False
        return True

    def _write(self, path: Path, cache: PackedCache, now_s: float) -> None:
        part = path.with_suffix(_PART)
        part.parent.mkdir(exist_ok=True, mode=0o700)
        try:
            write_cache(part, cache)
            self._make_room(part.stat().st_size, now_s)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)

    def used_bytes(self) -> int:
        """What all the files take."""
        return sum(file.stat().st_size for file in self._files(_SUFFIX))

    def _path(self, chunk: ChunkKey, variant: str) -> Path:
        return self.folder / chunk[:_SPREAD] / f"{chunk}-{variant}{_SUFFIX}"

    def _files(self, suffix: str) -> list[os.DirEntry[str]]:
        found: list[os.DirEntry[str]] = []
        with os.scandir(self.folder) as subfolders:
            for subfolder in subfolders:
                if subfolder.is_dir():
                    with os.scandir(subfolder.path) as files:
                        found += [file for file in files if file.name.endswith(suffix)]
        return found

    def _sweep(self) -> None:
        """Remove what a writer that was killed had begun; only under the lock, so no other begins one."""
        for file in self._files(_PART):
            (self.folder / file.path).unlink(missing_ok=True)

    def _make_room(self, size: int, now_s: float) -> None:
        """Evict until `size` more fit. Raises: TierFull: what is in use leaves no room."""
        files = {file.path: file.stat() for file in self._files(_SUFFIX)}
        missing = size + sum(stat.st_size for stat in files.values()) - self.budget_bytes
        idle: dict[str, tuple[Path, int, float]] = {}
        for name, stat in files.items() if missing > 0 else ():
            path = self.folder / name
            variant = path.stem.partition("-")[2]
            if not self._worth.known(variant):
                self._worth.used(variant, stat.st_mtime)
            idle[variant] = (path, stat.st_size, _work_s(path))
        while missing > 0:
            able = [(variant, size_bytes, work_s) for variant, (_, size_bytes, work_s) in idle.items()]
            for variant in self._worth.victims(able, missing, now_s):
                path, size_bytes, _ = idle.pop(variant)
                missing -= size_bytes if _removed_unless_read(path) else 0

    @contextmanager
    def _sole_writer(self) -> Iterator[None]:
        descriptor = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _removed_unless_read(path: Path) -> bool:
    """Remove a file that nobody reads; False: somebody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _work_s(path: Path) -> float:
    """What the file saves; 0, so that it goes first, when it cannot be used."""
    chunk, _, variant = path.stem.partition("-")
    try:
        cache = OpenCache(path, ChunkKey(chunk), variant)
    except (CacheDamaged, OSError):
        return 0.0
    cache.close()
    return cache.facts.work_s
