"""A chunk-cache as a file: what it is, then a block for each layer, all of them with checksums.

Magic, length of the head, head (JSON), its SHA-256, statistics, layers. The head has the SHA-256 of what follows, so
that a layer is checked when it is read and none has to be read for another. A file is written under another name and
renamed: there is a whole one or none. It is not flushed: what a power cut leaves of it fails its checksums.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from memory_tiers.kv.chunk_cache import Facts, PackedCache
from memory_tiers.kv.chunk_key import ChunkKey
from memory_tiers.kv.packing import Precision, Shape, unpack_layer
from memory_tiers.kv.reuse import ChunkStatistics

if TYPE_CHECKING:
    from pathlib import Path

    from memory_tiers.kv.packing import F32

MAGIC: Final = b"coe-kv\x001"  # the last byte is the version of the layout
_LENGTH: Final = 4
_DIGEST: Final = 32
_LONGEST_HEAD: Final = 16 * 2**20


class CacheDamaged(Exception):
    """The file is not what was written, or not of this version: to be removed, never used."""


class _Head(msgspec.Struct, frozen=True):
    chunk: str
    prefix: tuple[str, ...]
    outer_mean: float
    inner_mean: float
    exact: bool
    work_s: float
    shape: tuple[int, int, int, int]
    precision: Precision
    digests: tuple[str, ...]  # of the statistics, then of the layers


def write_cache(path: Path, cache: PackedCache) -> None:
    """Write the whole file under its final name. Raises: OSError."""
    facts, known = cache.facts, cache.facts.statistics
    statistics = known.inter.astype("<f4").tobytes() + known.outer_by_token.astype("<f4").tobytes()
    parts = (statistics, *cache.blocks)
    head = msgspec.json.encode(
        _Head(
            facts.chunk, known.prefix, known.outer_mean, known.inner_mean, known.exact, facts.work_s,
            (facts.shape.layers, facts.shape.tokens, facts.shape.heads, facts.shape.head_dim), facts.precision,
            tuple(sha256(part).hexdigest() for part in parts),
        )
    )  # fmt: skip
    with path.open("wb", buffering=0) as file:
        for part in (MAGIC, len(head).to_bytes(_LENGTH, "little"), head, sha256(head).digest(), *parts):
            file.write(part)


class OpenCache:
    """A variant's file, held open: while it is, no process that shares the folder evicts it."""

    def __init__(self, path: Path, chunk: ChunkKey, variant: str) -> None:
        """Open and read all but the layers. Raises: OSError; CacheDamaged: or it is another variant's."""
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
            head, self._at = self._read_head()
            self._digests = head.digests[1:]
            self.facts = self._read_facts(head)
            _refuse_another(self.facts, chunk, variant)
        except BaseException:
            self.close()
            raise
        self._blocks: list[bytes | None] = [None] * head.shape[0]

    def close(self) -> None:
        """Let it be evicted; closing twice does nothing."""
        with suppress(OSError):
            os.close(self._descriptor)
        self._descriptor = -1

    def layer(self, number: int) -> tuple[F32, F32]:
        """Keys and values of one layer. Raises: CacheDamaged: they are not what was kept."""
        block = self._blocks[number]
        if block is None:
            size = self.facts.shape.layer_bytes(self.facts.precision)
            block = self._blocks[number] = self._checked(self._at + number * size, size, self._digests[number])
        return unpack_layer(block, self.facts.shape, self.facts.precision)

    def whole(self) -> PackedCache | None:
        """What was read, if that was every layer."""
        blocks = [block for block in self._blocks if block is not None]
        return PackedCache(self.facts, tuple(blocks)) if len(blocks) == len(self._blocks) else None

    def _read_head(self) -> tuple[_Head, int]:
        start = self._read(0, len(MAGIC) + _LENGTH)
        if not start.startswith(MAGIC):
            raise CacheDamaged(f"{self.path} is no chunk-cache of this version")
        length = int.from_bytes(start[len(MAGIC) :], "little")
        if length > _LONGEST_HEAD:
            raise CacheDamaged(f"{self.path} has a head of {length} bytes")
        raw = self._read(len(start), length + _DIGEST)
        if sha256(raw[:length]).digest() != raw[length:]:
            raise CacheDamaged(f"the head of {self.path} is not what was written")
        try:
            return msgspec.json.decode(raw[:length], type=_Head), len(start) + length + _DIGEST
        except msgspec.MsgspecError as error:
            raise CacheDamaged(f"the head of {self.path}: {error}") from error

    def _read_facts(self, head: _Head) -> Facts:
        shape, prefix = Shape(*head.shape), tuple(ChunkKey(key) for key in head.prefix)
        if len(head.digests) != shape.layers + 1:
            raise CacheDamaged(f"{self.path} has {len(head.digests)} checksums for {shape.layers} layers")
        size = 4 * (len(prefix) + shape.tokens)
        numbers = np.frombuffer(self._checked(self._at, size, head.digests[0]), "<f4")
        self._at += size
        statistics = ChunkStatistics(
            prefix, numbers[: len(prefix)], head.outer_mean, head.inner_mean, numbers[len(prefix) :], head.exact
        )
        return Facts(ChunkKey(head.chunk), statistics, shape, head.precision, head.work_s)

    def _checked(self, at: int, size: int, digest: str) -> bytes:
        part = self._read(at, size)
        if sha256(part).hexdigest() != digest:
            raise CacheDamaged(f"{self.path}: {size} bytes at {at} are not what was written")
        return part

    def _read(self, at: int, size: int) -> bytes:
        part = bytearray()
        while len(part) < size:
            piece = os.pread(self._descriptor, size - len(part), at + len(part))
            if not piece:
                raise CacheDamaged(f"{self.path} ends before {at + size} bytes")
            part += piece
        return bytes(part)


def _refuse_another(facts: Facts, chunk: ChunkKey, variant: str) -> None:
    if (facts.chunk, facts.variant) != (chunk, variant):
        raise CacheDamaged(f"chunk {chunk}, variant {variant}, has the file of {facts.chunk}, {facts.variant}")
