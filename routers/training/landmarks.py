"""A few texts that stand for all: a kernel over many can be written over these (Nystroem), in few dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from routers.parts import neighbourhood
from routers.training.folds import draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from routers.types import F32

    Rows = npt.NDArray[np.intp]

MOST_LANDMARKS: Final = 4096
AXES: Final = 64  # a decision reads all landmarks: 1 MB
_JITTER: Final = 1e-4  # near-duplicates make the kernel between landmarks nearly singular


def principal_axes(vectors: F32, count: int = AXES) -> F32:
    """The directions that most of the vectors' length lies in. Shapes: (N, D) -> (D, min(count, D))."""
    moments = vectors.T.astype(np.float64) @ vectors.astype(np.float64)
    return np.ascontiguousarray(np.linalg.eigh(moments)[1][:, ::-1][:, :count], np.float32)


def chosen_landmarks(texts: Sequence[str], most: int = MOST_LANDMARKS) -> Rows:
    """So many of the texts, by their content and not by their place; all where there are fewer. Shapes: -> (L,)."""
    draws = np.array([draw(text) for text in texts], np.uint64)
    return np.sort(np.argsort(draws, kind="stable")[:most])


def spread_over_landmarks(vectors: F32, landmarks: Rows, temperature: float) -> F32:
    """Rows whose inner products are the neighbourhood kernel as the landmarks see it.

    Shapes: vectors (N, S), landmarks (L,) -> (N, L).
    """
    from scipy.linalg import solve_triangular  # noqa: PLC0415 - a training extra

    to_landmarks = neighbourhood(vectors[landmarks] @ vectors.T, temperature).astype(np.float64)
    factor = _factor(vectors[landmarks], temperature)
    return np.ascontiguousarray(solve_triangular(factor, to_landmarks, lower=True, overwrite_b=True).T, np.float32)


def weights_of_landmarks(vectors: F32, landmarks: Rows, temperature: float, dual: F32) -> F32:
    """What weights on all texts come to on the landmarks alone.

    Shapes: vectors (N, S), landmarks (L,), dual (N, O) -> (L, O).
    """
    from scipy.linalg import cho_solve  # noqa: PLC0415 - a training extra

    at_landmarks = neighbourhood(vectors[landmarks] @ vectors.T, temperature) @ dual
    factor = _factor(vectors[landmarks], temperature)
    return np.asarray(cho_solve((factor, True), at_landmarks.astype(np.float64)), np.float32)


def _factor(landmarks: F32, temperature: float) -> npt.NDArray[np.float64]:
    from scipy.linalg import cholesky  # noqa: PLC0415 - a training extra

    gram = neighbourhood(landmarks @ landmarks.T, temperature).astype(np.float64)
    gram[np.diag_indices(len(gram))] += _JITTER
    factor: npt.NDArray[np.float64] = cholesky(gram, lower=True)
    return factor
