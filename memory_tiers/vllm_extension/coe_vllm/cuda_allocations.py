"""What vLLM's sleep mode has allocated on a device, and which bytes of it have to survive a sleep."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .cuda_pages import Page

_WEIGHTS = "weights"  # the tag under which vLLM allocates what it loads


@dataclass
class Block:
    """Bytes that survive a sleep. offset: in the host image."""

    address: int
    size: int
    offset: int


@dataclass
class Range:
    """Addresses of one allocation and the pages under them. fixed: the content never changes."""

    address: int
    size: int
    fixed: bool = False
    blocks: list[Block] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    mapped: int = 0  # bytes from the beginning that have a page under them


def allocations(  # its class is vLLM's, of any version
    allocator: Any,  # noqa: ANN401
    kv: frozenset[int],
) -> tuple[list[Range], list[tuple[Range, int]]]:
    """Every allocation: weights first, by address, KV cache last; and the handles of the memory under them.

    allocator: vLLM's CuMemAllocator. kv: addresses of KV cache; the content of what they lie in is given up.
    """
    in_use = _blocks_in_use(pool for pool, _ in allocator.allocator_and_pools.values())
    fixed: list[Range] = []
    kept: list[Range] = []
    given_up: list[Range] = []
    handles = []
    for address, allocation in sorted(allocator.pointer_to_data.items()):
        _, size, _, slot = allocation.handle
        r = Range(address, size, fixed=allocation.tag == _WEIGHTS)
        is_kv = any(address <= of_kv < address + size for of_kv in kv)
        (fixed if r.fixed else given_up if is_kv else kept).append(r)
        handles.append((r, ctypes.c_uint64.from_address(slot).value))
    offset = 0
    for r in fixed + kept:
        for address, size in in_use.get(r.address, [(r.address, r.size)]):
            r.blocks.append(Block(address, size, offset))
            offset += size
    return fixed + kept + given_up, handles


def _blocks_in_use(pools: Iterable[Any]) -> dict[int, list[tuple[int, int]]]:
    """(address, size) of what torch has handed out, by the allocation it lies in: up to a fifth of one is unused."""
    in_use = {}
    for segment in (segment for pool in pools for segment in pool.snapshot()):
        address, blocks = segment["address"], []
        for block in segment["blocks"]:
            if block["state"] != "inactive":
                blocks.append((address, block["size"]))
            address += block["size"]
        in_use[segment["address"]] = blocks
    return in_use


def kv_addresses(runner: Any) -> frozenset[int]:  # noqa: ANN401 - vLLM's model runner, of any version
    """Where the KV cache's tensors begin. An unknown runner has none: then its whole content is carried over."""
    found: set[int] = set()
    nested = [getattr(runner, "kv_caches", ())]
    while nested:
        for item in nested.pop():
            if hasattr(item, "untyped_storage"):
                found.add(item.untyped_storage().data_ptr())
            elif isinstance(item, list | tuple):
                nested.append(item)
    return frozenset(found)
