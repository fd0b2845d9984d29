"""Ridge regression on a sum of kernels: closed form, so the only choice left is how hard to hold it back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from routers.parts import KernelPart
from routers.training.landmarks import weights_of_landmarks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from routers.training.design import Design
    from routers.training.folds import Held
    from routers.types import F32

    Rows = npt.NDArray[np.intp]

MOST_TEXTS: Final = 20_000  # the kernel, one of its terms and a factor of more would not fit in 6 GiB
_MOST_MASKS: Final = 4


@dataclass(frozen=True)
class KernelRecipe:
    """A neighbourhood kernel exp((cos - 1) / temperature), and linear ones of the middle view, words and letters.

    penalties: tried in turn; `chosen` keeps the best.
    """

    temperature: float
    middle: float
    words: float
    letters: float
    penalties: tuple[float, ...]
    name: str = "kernel"

    def gram(self, design: Design) -> F32:
        """The kernel between all texts. Shapes: (N, N)."""
        total = design.neighbourhood_gram(self.temperature)
        for weight, block in (
            (self.middle, "middle_gram"),
            (self.words, "words_gram"),
            (self.letters, "letters_gram"),
        ):
            if weight:
                total += np.float32(weight) * getattr(design, block)()
        return total

    def tried(
        self, gram: F32, targets: F32, folds: Sequence[Held], loss: Callable[[F32], float]
    ) -> tuple[KernelRecipe, F32]:
        """The recipe with the penalty of the least out-of-fold loss, and its out-of-fold scores.

        Shapes: gram (N, N), targets (N, O), NaN where unknown -> (N, O).
        """
        best: tuple[float, float, F32] | None = None
        for penalty in self.penalties:
            scores = np.full(targets.shape, np.nan, np.float32)
            for fitted, held in folds:
                mean, alpha = _solve(gram[np.ix_(fitted, fitted)], targets[fitted], penalty)
                scores[held] = gram[np.ix_(held, fitted)] @ alpha + mean
            this = loss(scores)
            if best is None or this < best[0]:
                best = this, penalty, scores
        if best is None:
            raise ValueError("no penalty to try")
        return replace(self, penalties=(best[1],)), best[2]

    def fitted(self, design: Design, gram: F32, targets: F32) -> KernelPart:
        """Fit on every text, with the first penalty. Shapes: targets (N, O)."""
        mean, alpha = _solve(gram.copy(), targets, self.penalties[0])
        none = np.zeros((0, targets.shape[1]), np.float32)
        return KernelPart(
            self.temperature,
            mean,
            self._near(design, alpha),
            np.float32(self.middle) * _over_both(design.middle.T @ alpha) if self.middle else none,
            np.float32(self.words) * np.asarray(design.words.T @ alpha, np.float32) if self.words else none,
            np.float32(self.letters) * np.asarray(design.letters.T @ alpha, np.float32) if self.letters else none,
        )

    def _near(self, design: Design, alpha: F32) -> F32:
        """The weights on all texts as weights on the landmarks. Shapes: (N, O) -> (L, O)."""
        if len(design.landmark_rows) == len(design):
            return alpha
        return weights_of_landmarks(design.sketched, design.landmark_rows, self.temperature, alpha)


def column_means(targets: F32) -> F32:
    """Each column's mean; the mean of all that is known, or 0, where nothing of a column is. Shapes: (N, O) -> (O,)."""
    known = ~np.isnan(targets)
    counts, sums = known.sum(axis=0), np.where(known, targets, 0).sum(axis=0, dtype=np.float64)
    otherwise = sums.sum() / max(1, counts.sum())
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), otherwise), np.float32)


def fill_unknown(targets: F32) -> F32:
    """Unknown outcomes as two-way means say: the column's mean plus how much easier the row is than its columns.

    Shapes: (N, O), NaN where unknown -> (N, O); a row of which nothing is known gets the columns' means.
    """
    known = ~np.isnan(targets)
    if known.all():
        return targets
    columns = column_means(targets)
    off = np.where(known, targets - columns, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.asarray(np.where(known, targets, columns + off[:, None]), np.float32)


def _over_both(middle: F32) -> F32:
    """Weights of the middle view as weights of both. Shapes: (D, O) -> (2 D, O)."""
    return np.vstack([middle, np.zeros_like(middle)])


def _solve(gram: F32, targets: F32, penalty: float) -> tuple[F32, F32]:
    """Means and dual weights; columns with the same gaps are solved together, many kinds of gaps are filled first.

    Shapes: gram (N, N), overwritten; targets (N, O) -> (O,), (N, O).
    """
    known = ~np.isnan(targets)
    masks, kind = np.unique(known, axis=1, return_inverse=True)
    if masks.shape[1] > _MOST_MASKS:
        targets, masks, kind = fill_unknown(targets), np.ones((len(targets), 1), np.bool_), np.zeros_like(kind)
    mean, alpha = column_means(targets), np.zeros(targets.shape, np.float32)
    for number, mask in enumerate(masks.T):
        columns, rows = np.flatnonzero(kind == number), np.flatnonzero(mask)
        if len(rows):
            block = gram if len(rows) == len(gram) and masks.shape[1] == 1 else gram[np.ix_(rows, rows)]
            mean[columns] = targets[np.ix_(rows, columns)].mean(axis=0)
            alpha[np.ix_(rows, columns)] = _cholesky(block, targets[np.ix_(rows, columns)] - mean[columns], penalty)
    return mean, alpha


def _cholesky(gram: F32, targets: F32, penalty: float) -> F32:
    from scipy.linalg import cho_factor, cho_solve  # noqa: PLC0415 - a training extra

    gram[np.diag_indices(len(gram))] += np.float32(penalty)
    factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(cho_solve(factor, targets.astype(np.float32), check_finite=False), np.float32)
