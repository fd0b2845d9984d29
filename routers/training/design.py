"""The texts that a router is fitted on, in every form a fit wants them, each made once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.lexical import BUCKETS, LexicalRow, LexicalSpace, fit_lexical
from routers.parts import Features, Landmarks, neighbourhood, unit_rows
from routers.training.landmarks import chosen_landmarks, principal_axes, spread_over_landmarks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from routers.lexical import SparseRow
    from routers.types import F32, Encoded

    Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Design:
    """N encoded texts. Shapes: encoded.vectors (N, 2 D): two views."""

    encoded: Encoded

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def middle(self) -> F32:
        """The first view. Shapes: (N, D)."""
        return self.encoded.vectors[:, : self.encoded.vectors.shape[1] // 2]

    @property
    def last(self) -> F32:
        """The second view. Shapes: (N, D)."""
        return self.encoded.vectors[:, self.encoded.vectors.shape[1] // 2 :]

    @cached_property
    def space(self) -> LexicalSpace:
        """Inverse document frequencies; they know no label, so folds may share them."""
        return fit_lexical(self.encoded)

    @cached_property
    def lexical(self) -> list[LexicalRow]:
        """Every text's sparse rows."""
        return self.space.rows(self.encoded)

    @cached_property
    def words(self) -> Any:  # noqa: ANN401 - scipy ships no types
        """Word pieces. Shapes: (N, BUCKETS), sparse."""
        return _stacked([row.words for row in self.lexical])

    @cached_property
    def letters(self) -> Any:  # noqa: ANN401 - as above
        """Letters. Shapes: (N, BUCKETS), sparse."""
        return _stacked([row.letters for row in self.lexical])

    def middle_gram(self) -> F32:
        """Inner products of the middle view. Shapes: (N, N)."""
        return self.middle @ self.middle.T

    def words_gram(self) -> F32:
        """Cosines of the word rows. Shapes: (N, N)."""
        return np.asarray((self.words @ self.words.T).toarray(), np.float32)

    def letters_gram(self) -> F32:
        """Cosines of the letter rows. Shapes: (N, N)."""
        return np.asarray((self.letters @ self.letters.T).toarray(), np.float32)

    @cached_property
    def axes(self) -> F32:
        """The directions that closeness is judged in; they know no label either. Shapes: (D, S)."""
        return principal_axes(self.last)

    @cached_property
    def sketched(self) -> F32:
        """The last view along the axes. Shapes: (N, S), rows of unit length."""
        return unit_rows(self.last @ self.axes)

    @cached_property
    def landmark_rows(self) -> Rows:
        """The texts that stand for all: a kernel's weights are kept for these alone. Shapes: (L,), rising."""
        return chosen_landmarks(self.encoded.texts)

    @cached_property
    def landmarks(self) -> Landmarks:
        """These texts, as a decision reads them."""
        return Landmarks(self.axes, np.ascontiguousarray(self.sketched[self.landmark_rows]))

    def neighbourhood_gram(self, temperature: float) -> F32:
        """The kernel of closeness between all texts, as far as the landmarks can tell. Shapes: (N, N)."""
        if len(self.landmark_rows) == len(self):
            return neighbourhood(self.sketched @ self.sketched.T, temperature)
        spread = spread_over_landmarks(self.sketched, self.landmark_rows, temperature)
        return spread @ spread.T

    def features(self, rows: Rows, memory: Rows) -> Features:
        """What a part fitted on the texts `memory` would see of the texts `rows`."""
        lexical = [self.lexical[i] for i in rows]
        return Features(self.middle[rows], self.last[rows], self.landmarks, self.last[memory], lexical)


def _stacked(rows: Sequence[SparseRow]) -> Any:  # noqa: ANN401 - as above
    from scipy.sparse import csr_array  # noqa: PLC0415 - a training extra

    ends = np.cumsum([0, *(len(row.buckets) for row in rows)])
    weights = np.concatenate([row.weights for row in rows]) if rows else np.empty(0, np.float32)
    buckets = np.concatenate([row.buckets for row in rows]) if rows else np.empty(0, np.intp)
    return csr_array((weights, buckets, ends), shape=(len(rows), BUCKETS))
