"""Keys and values of one layer as bytes: as they are, or smaller at a cost in quality."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
_LARGEST: Final = 127


class Precision(StrEnum):
    """What a number is kept as. int8: with one scale for each token and head."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a chunk-cache: layers, tokens, heads of keys, numbers in a head."""

    layers: int
    tokens: int
    heads: int
    head_dim: int

    def layer_bytes(self, precision: Precision) -> int:
        """What keys and values of one layer take."""
        rows = 2 * self.tokens * self.heads
        match precision:
            case Precision.FLOAT32:
                return rows * self.head_dim * 4
            case Precision.FLOAT16:
                return rows * self.head_dim * 2
            case Precision.INT8:
                return rows * (self.head_dim + 4)


def pack_layer(keys: F32, values: F32, precision: Precision) -> bytes:
    """The bytes of one layer. Shapes: keys and values (tokens, heads, head_dim)."""
    both: F32 = np.stack([keys, values])
    match precision:
        case Precision.FLOAT32:
            return bytes(both.astype("<f4", copy=False).tobytes())
        case Precision.FLOAT16:
            return bytes(both.astype("<f2").tobytes())
        case Precision.INT8:
            scales = np.abs(both).max(axis=-1, keepdims=True) / _LARGEST
            steps: NDArray[np.int8] = np.rint(both / np.where(scales > 0, scales, 1)).astype(np.int8)
            return bytes(scales.astype("<f4").tobytes() + steps.tobytes())


def unpack_layer(block: bytes, shape: Shape, precision: Precision) -> tuple[F32, F32]:
    """Keys and values of one layer; without a copy where they were kept as they are.

    Shapes: (tokens, heads, head_dim) each. Raises: ValueError: the block is not of this shape.
    """
    if len(block) != shape.layer_bytes(precision):
        raise ValueError(
            f"a layer of {shape} in {precision} has {shape.layer_bytes(precision)} bytes, not {len(block)}"
        )
    rows, dims = (2, shape.tokens, shape.heads), shape.head_dim
    both: F32
    match precision:
        case Precision.FLOAT32:
            both = np.frombuffer(block, "<f4").reshape(*rows, dims)
        case Precision.FLOAT16:
            both = np.frombuffer(block, "<f2").reshape(*rows, dims).astype(np.float32)
        case Precision.INT8:
            count = 2 * shape.tokens * shape.heads
            scales = np.frombuffer(block, "<f4", count).reshape(*rows, 1)
            both = np.frombuffer(block, np.int8, offset=4 * count).reshape(*rows, dims) * scales
    return both[0], both[1]
