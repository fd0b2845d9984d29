"""Packing a model's weights into host memory, in small steps: requests of the same engine get their turn in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .packed_memory import PackedMemory, raw_bytes
from .pages import storages_of
from .primitives import Primitive, cells_of, primitives_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import torch

    from .capture import Captured


@dataclass(frozen=True)
class Packed:
    """A host copy, and what begins where in it."""

    memory: PackedMemory
    tensors: list[tuple[torch.UntypedStorage, int]]
    primitives: list[tuple[Primitive, int]]


def tensors_of(model: torch.nn.Module) -> Iterator[object]:
    """Parameters, buffers, and what layers have packed away as tensors; some other things among them."""
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():
        yield from cells_of(module)


def pack(model: torch.nn.Module, captured: Captured | None) -> Generator[None, None, Packed]:
    """Yields between steps of some milliseconds. Closing it early gives back what it holds.

    Raises: Refused: there is no memory for it, or a weight is not finite.
    """
    memory, offsets = PackedMemory(), dict[int, int]()
    if captured is not None and (kept := captured.take()) is not None:
        memory.close()
        memory, offsets = kept
    try:
        found: list[tuple[Primitive, int | None]] = []
        for primitive in primitives_of(model):
            offset = offsets.get(id(primitive.handler))
            if offset is None and primitive.kept is None:
                offset = memory.append((yield from primitive.matrix()))
                yield
            found.append((primitive, offset))
        tensors = []
        there = _brought_by_primitives(found)
        for storage in storages_of(tensors_of(model)):
            begin = there.get(storage.data_ptr())
            tensors.append((storage, memory.append(raw_bytes(storage)) if begin is None else begin))
            yield
        memory.seal()
    except BaseException:
        memory.close()
        raise
    at = {storage.data_ptr(): begin for storage, begin in tensors}
    return Packed(memory, tensors, [(p, _kept_at(p, at) if begin is None else begin) for p, begin in found])


def _brought_by_primitives(found: list[tuple[Primitive, int | None]]) -> dict[int, int]:
    """Where storages lie that a primitive's matrix is the whole of: an embedding that is the last layer as well."""
    kept = [(primitive.kept, begin) for primitive, begin in found if begin is not None]
    return {
        matrix.untyped_storage().data_ptr(): begin
        for matrix, begin in kept
        if matrix is not None and matrix.untyped_storage().nbytes() == matrix.numel() * matrix.element_size()
    }


def _kept_at(primitive: Primitive, at: dict[int, int]) -> int:
    """Where the matrix of a primitive lies whose layer still has it among its tensors."""
    kept = primitive.kept
    if kept is None:  # pragma: no cover - such a one has an offset
        raise AssertionError(primitive)
    return int(at[kept.untyped_storage().data_ptr()] + kept.storage_offset() * kept.element_size())
