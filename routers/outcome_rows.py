"""One line of an outcome file, and the matrix that lines of experts' figures become."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from routers.types import F32

F64 = npt.NDArray[np.float64]

_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Score = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Cost = Annotated[float, msgspec.Meta(ge=0)]
_Tokens = Annotated[float, msgspec.Meta(ge=0, multiple_of=1)]  # data frames make floats of integers with gaps


class OutcomeRow(msgspec.Struct, omit_defaults=True, frozen=True):
    """One prompt. scores: null where an expert was not asked. costs: USD. tokens: of the answer."""

    id: _Name | int
    text: str
    scores: dict[_Name, _Score | None]
    category: _Name | None = None
    costs: dict[_Name, _Cost | None] | None = None
    tokens: dict[_Name, _Tokens | None] | None = None


class GrowingMatrix:
    """A matrix that grows by rows and by named columns; keeping the rows' mappings would take far more memory."""

    def __init__(self) -> None:
        self._columns: dict[str, int] = {}
        self._row, self._column, self._value = array("q"), array("q"), array("d")

    def add(self, row: int, values: Mapping[str, float | None]) -> None:
        """Put one row's values under their names; None takes a column but no cell."""
        for name, value in values.items():
            column = self._columns.setdefault(name, len(self._columns))
            if value is not None:
                self._row.append(row)
                self._column.append(column)
                self._value.append(value)

    def names(self) -> tuple[str, ...]:
        """The columns with at least one cell, in order of appearance."""
        used = set(self._column)
        return tuple(name for name, column in self._columns.items() if column in used)

    def matrix(self, rows: int, names: Sequence[str]) -> F64:
        """The cells under `names`, NaN where there is none. Shapes: (rows, names)."""
        whole = np.full((rows, len(self._columns) + 1), np.nan)  # the last column stands for every unknown name
        whole[np.array(self._row, np.int64), np.array(self._column, np.int64)] = np.array(self._value, np.float64)
        return whole[:, [self._columns.get(name, -1) for name in names]]


def cells(matrix: F32 | F64, *, whole: bool = False) -> list[list[float | None]]:
    """The cells as Python writes them shortest: 0.1, not the single-precision 0.10000000149; NaN becomes None.

    whole: they are integers and are written so.
    """
    distinct, where = np.unique(matrix, return_inverse=True)
    exact = [None if np.isnan(v) else int(v) if whole else float(str(v)) for v in distinct]
    rows: list[list[float | None]] = np.array(exact, dtype=object)[where].reshape(matrix.shape).tolist()
    return rows


def one_nan(matrix: F32 | F64) -> F32 | F64:
    """The matrix with one NaN and one zero: each has several bit patterns, which would hash differently."""
    return np.where(np.isnan(matrix), matrix.dtype.type(np.nan), matrix + matrix.dtype.type(0))
