"""Which of an engine's device memory survives a sleep, told from what its allocator and its runner say."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

from memory_tiers.vllm_extension.coe_vllm.cuda_allocations import Block, allocations, kv_addresses

MIB = 1 << 20


@dataclass
class Allocation:
    handle: tuple[int, int, int, int]
    tag: str


@dataclass
class Pool:
    segments: list[dict[str, Any]]

    def snapshot(self) -> list[dict[str, Any]]:
        return self.segments


@dataclass
class Allocator:
    """What is read of vLLM's, in its shapes."""

    pointer_to_data: dict[int, Allocation] = field(default_factory=dict)
    allocator_and_pools: dict[str, tuple[Pool, None]] = field(default_factory=dict)
    slots: list[Any] = field(default_factory=list)

    def add(self, address: int, size: int, tag: str, handle: int, blocks: list[tuple[int, str]] | None = None) -> None:
        self.slots.append(ctypes.c_uint64(handle))
        where = (0, size, address, ctypes.addressof(self.slots[-1]))
        self.pointer_to_data[address] = Allocation(where, tag)
        if blocks is not None:
            pool, _ = self.allocator_and_pools.setdefault(tag, (Pool([]), None))
            shapes = [{"size": block, "state": state} for block, state in blocks]
            pool.segments.append({"address": address, "blocks": shapes})


class Tensor:
    def __init__(self, address: int) -> None:
        self._address = address

    def untyped_storage(self) -> Tensor:
        return self

    def data_ptr(self) -> int:
        return self._address


@dataclass
class Runner:
    kv_caches: list[Any]


def engine() -> tuple[Allocator, Runner]:
    allocator = Allocator()
    allocator.add(0x9000000, 4 * MIB, "kv_cache", 3)
    allocator.add(0x1000000, 20 * MIB, "weights", 1, [(15 * MIB, "active_allocated"), (5 * MIB, "inactive")])
    allocator.add(0x5000000, 2 * MIB, "kv_cache", 2, [(512, "inactive"), (1024, "active_pending_free")])
    allocator.add(0x3000000, 2 * MIB, "weights", 4)
    return allocator, Runner([Tensor(0x9000000 + 512), [Tensor(0x1)]])


def test_weights_come_first_and_the_kv_cache_is_given_up() -> None:
    allocator, runner = engine()
    ranges, handles = allocations(allocator, kv_addresses(runner))
    assert [(r.address, r.fixed) for r in ranges] == [
        (0x1000000, True), (0x3000000, True), (0x5000000, False), (0x9000000, False),
    ]  # fmt: skip
    assert ranges[-1].blocks == []
    assert {r.address: handle for r, handle in handles} == {0x1000000: 1, 0x3000000: 4, 0x5000000: 2, 0x9000000: 3}


def test_only_what_is_in_use_is_copied_and_an_unknown_allocation_whole() -> None:
    allocator, runner = engine()
    ranges, _ = allocations(allocator, kv_addresses(runner))
    assert [block for r in ranges for block in r.blocks] == [
        Block(0x1000000, 15 * MIB, 0),
        Block(0x3000000, 2 * MIB, 15 * MIB),
        Block(0x5000000 + 512, 1024, 17 * MIB),
    ]


def test_without_known_kv_tensors_everything_is_carried_over() -> None:
    allocator, _ = engine()
    ranges, _ = allocations(allocator, kv_addresses(object()))
    assert all(r.blocks for r in ranges)
