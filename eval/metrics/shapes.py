"""The arrays that measurements take, and the refusal of those that do not fit together."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Ints: TypeAlias = npt.NDArray[np.integer[Any]]
Bools: TypeAlias = npt.NDArray[np.bool_]
F64: TypeAlias = npt.NDArray[np.float64]
I64: TypeAlias = npt.NDArray[np.int64]


def vectors(**arrays: npt.NDArray[Any]) -> int:
    """The length that these vectors share, so that nothing broadcasts by accident.

    Shapes: each (N,), N > 0 -> N.
    Raises: ValueError: one is no vector, they differ in length, or they are empty; names every shape.
    """
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1 or any(len(shape) != 1 for shape in shapes):
        raise ValueError(f"{_named(arrays)} must be vectors of one length")
    n = int(shapes.pop()[0])
    if n == 0:
        raise ValueError(f"{_named(arrays)}: nothing to measure")
    return n


def matrix_rows(matrix: npt.NDArray[Any], **per_row: npt.NDArray[Any]) -> tuple[int, int]:
    """The shape of a matrix that has one entry of each named vector a row.

    Shapes: matrix (N, E), N and E > 0, each vector (N,) -> (N, E).
    Raises: ValueError: the matrix has no rows or columns, or a vector differs in N; names both shapes.
    """
    if matrix.ndim != 2 or matrix.size == 0:  # noqa: PLR2004  a matrix has two
        raise ValueError(f"a matrix with rows and columns is needed, not one of shape {matrix.shape}")
    for name, vector in per_row.items():
        if vector.shape != matrix.shape[:1]:
            raise ValueError(f"matrix {matrix.shape} and {name} {vector.shape} differ in N")
    return matrix.shape[0], matrix.shape[1]


def no_nan(**arrays: Floats) -> None:
    """Refuse a NaN where every value must be known.

    Raises: ValueError: names the array, how many of its values are NaN, and the first one's place.
    """
    for name, array in arrays.items():
        missing = np.flatnonzero(np.isnan(array))
        if len(missing):
            raise ValueError(f"{name} {array.shape}: {len(missing)} values are NaN, the first at {int(missing[0])}")


def indices_below(limit: int, **arrays: Ints) -> None:
    """Refuse an index outside 0..limit-1: a negative one would silently count from the end.

    Raises: ValueError: names the array, the index and the limit.
    """
    for name, array in arrays.items():
        wrong = array[(array < 0) | (array >= limit)]
        if len(wrong):
            raise ValueError(f"{name} {array.shape}: {int(wrong[0])} is not in 0..{limit - 1}")


def _named(arrays: dict[str, npt.NDArray[Any]]) -> str:
    return " and ".join(f"{name} {array.shape}" for name, array in arrays.items())
