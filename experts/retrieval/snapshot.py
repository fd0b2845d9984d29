"""What a search looks in: a base on the disk, what came since in memory, and what of both is gone. Immutable.

A change makes a new snapshot; a search under way finishes on the one it began with. What came since lies in arrays with
room behind their end: a longer snapshot shares them, and only its owner writes behind the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from experts.retrieval.generation import best_first

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experts.retrieval.generation import Generation

_LEAST_ROOM: Final = 256
_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Ranges:
    """Sequence numbers as ranges [first, last], ascending, apart from each other. Shapes: firsts (R,), lasts (R,)."""

    firsts: NDArray[np.int64]
    lasts: NDArray[np.int64]

    @classmethod
    def of(cls, ranges: list[tuple[int, int]]) -> Ranges:
        """From pairs of a first number and how many follow it, itself included."""
        pairs = np.array(ranges, np.int64).reshape(-1, 2)
        return cls(pairs[:, 0], pairs[:, 0] + pairs[:, 1] - 1)

    def has(self, seq: int) -> bool:
        """Whether a number lies in a range."""
        at = int(np.searchsorted(self.firsts, seq, "right")) - 1
        return at >= 0 and seq <= self.lasts[at]

    def holds(self, seqs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these ascending numbers lie in a range. Shapes: (N,) -> (N,)."""
        begins = np.searchsorted(seqs, self.firsts, "left")
        ends = np.searchsorted(seqs, self.lasts, "right")
        steps = np.zeros(len(seqs) + 1, np.int32)
        np.add.at(steps, begins, 1)
        np.add.at(steps, ends, -1)
        return np.cumsum(steps[:-1]) > 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of one index. seen_seq: every passage of the store up to it is here, unless it is gone.

    Shapes: base_live (rows of the base,), None where all are; seqs (N,), vectors (N, D), live (N,); total (D,), the sum
    of all vectors that are here.
    """

    base: Generation | None
    base_live: NDArray[np.bool_] | None
    seqs: NDArray[np.int64]
    vectors: NDArray[np.float32]
    live: NDArray[np.bool_]
    total: NDArray[np.float64]
    seen_seq: int

    @classmethod
    def empty(cls, dimensions: int) -> Snapshot:
        """Nothing at all."""
        seqs, vectors = np.empty(0, np.int64), np.empty((0, dimensions), np.float32)
        return cls(None, None, seqs, vectors, np.empty(0, np.bool_), np.zeros(dimensions), seen_seq=0)

    @classmethod
    def on(cls, base: Generation, covered_seq: int, alive: Ranges) -> Snapshot:
        """A base, of which only what lies in `alive` is there still."""
        live = alive.holds(base.seqs)
        start = cls.empty(base.manifest.dimensions)
        if live.all():
            return replace(start, base=base, total=base.total, seen_seq=covered_seq)
        total = base.total - base.vectors[~live].sum(axis=0, dtype=np.float64)
        return replace(start, base=base, base_live=live, total=total, seen_seq=covered_seq)

    @property
    def rows(self) -> int:
        """How many passages a search looks at."""
        return self.base_rows - self.base_gone + int(np.count_nonzero(self.live))

    @property
    def base_rows(self) -> int:
        """How many the base holds, those that are gone included."""
        return 0 if self.base is None else self.base.manifest.rows

    @property
    def base_gone(self) -> int:
        """How many of the base's are gone."""
        return 0 if self.base_live is None else int(np.count_nonzero(~self.base_live))

    def search(self, query: NDArray[np.float32], count: int, allowed: Ranges | None) -> list[tuple[int, float]]:
        """Sequence numbers and cosines of the passages nearest to a unit vector, best first. Shapes: query (D,)."""
        scores = self.vectors @ query
        mask = self.live if allowed is None else self.live & allowed.holds(self.seqs)
        seqs, scores = self.seqs[mask], scores[mask]
        if self.base is not None:
            permitted = self.base_live
            if allowed is not None:
                within = allowed.holds(self.base.seqs)
                permitted = within if permitted is None else permitted & within
            rows, base_scores = self.base.search(query, count, permitted)
            seqs, scores = np.concatenate([self.base.seqs[rows], seqs]), np.concatenate([base_scores, scores])
        best = best_first(scores, count)
        return list(zip(seqs[best].tolist(), scores[best].tolist(), strict=True))

    def rows_of(self, seqs: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of passages, zeros for one that is not here. Shapes: (N,) -> (N, D)."""
        rows = np.zeros((len(seqs), len(self.total)), np.float32)
        missing = np.ones(len(seqs), np.bool_)
        if self.base is not None:
            missing &= ~_copied(rows, seqs, missing, self.base.seqs, self.base.vectors)
        _copied(rows, seqs, missing, self.seqs, self.vectors)
        return rows

    def plus(self, seqs: NDArray[np.int64], vectors: NDArray[np.float32], seen_seq: int) -> Snapshot:
        """With passages that were committed since. Only the owner of the newest may ask: it writes in its room."""
        count = len(self.seqs)
        end = count + len(seqs)
        own_seqs, own_vectors = _roomy(self.seqs, end), _roomy(self.vectors, end)
        own_seqs[count:end], own_vectors[count:end] = seqs, vectors
        live = np.concatenate([self.live, np.ones(len(seqs), np.bool_)])
        total = self.total + vectors.sum(axis=0, dtype=np.float64)
        grown = replace(self, seqs=own_seqs[:end], vectors=own_vectors[:end], live=live)
        return replace(grown, total=total, seen_seq=seen_seq)

    def minus(self, gone: Ranges) -> Snapshot:
        """Without the passages in these ranges."""
        base_live, total = self.base_live, self.total
        if self.base is not None:
            alive = np.ones(self.base_rows, np.bool_) if base_live is None else base_live
            lost = gone.holds(self.base.seqs) & alive
            if lost.any():
                base_live = alive & ~lost
                total = total - self.base.vectors[lost].sum(axis=0, dtype=np.float64)
        lost = gone.holds(self.seqs) & self.live
        total = total - self.vectors[lost].sum(axis=0, dtype=np.float64)
        return replace(self, base_live=base_live, live=self.live & ~lost, total=total)


def _copied(
    rows: NDArray[np.float32],
    wanted: NDArray[np.int64],
    missing: NDArray[np.bool_],
    seqs: NDArray[np.int64],
    vectors: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Copy into `rows` the missing ones that are among `seqs`; which those were."""
    if not len(seqs):
        return np.zeros(len(wanted), np.bool_)
    places = np.minimum(np.searchsorted(seqs, wanted), len(seqs) - 1)
    found: NDArray[np.bool_] = missing & (seqs[places] == wanted)
    rows[found] = vectors[places[found]]
    return found


def _roomy(array: NDArray[_T], end: int) -> NDArray[_T]:
    """The array's own memory where it reaches to `end`, else a larger copy."""
    whole = array.base
    if isinstance(whole, np.ndarray) and whole.shape[1:] == array.shape[1:] and len(whole) >= end:
        return whole
    grown = np.empty((max(_LEAST_ROOM, 2 * end), *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
