"""Which texts are held out together when a fit is tried on texts it has not seen."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

Held = tuple["npt.NDArray[np.intp]", "npt.NDArray[np.intp]"]


def held_out_folds(texts: Sequence[str], labels: npt.NDArray[np.int64], folds: int = 5) -> list[Held]:
    """Split into (fitted, held out) pairs; each text is held out once, equal texts together, labels spread evenly.

    A text's fold hangs on its content alone, not on its place in the file.
    Shapes: labels (N,), negative where unknown; each pair holds row numbers, N together.
    """
    draws = np.array([draw(text) for text in texts], np.uint64)
    order = np.lexsort((draws, labels))
    fold = np.empty(len(texts), np.intp)
    fold[order] = np.arange(len(texts)) % max(2, folds)
    first: dict[int, int] = {}
    for row in order.tolist():
        fold[row] = first.setdefault(int(draws[row]), int(fold[row]))
    rows = np.arange(len(texts))
    return [(rows[fold != f], rows[fold == f]) for f in np.unique(fold)]


def plain(text: str) -> str:
    """What makes two texts equal: spacing and letter case do not count."""
    return " ".join(text.casefold().split())


def draw(text: str) -> int:
    """A number that the text's content alone decides, evenly spread over 64 bits."""
    return int.from_bytes(hashlib.sha256(plain(text).encode("utf-8", "surrogatepass")).digest()[:8], "big")
