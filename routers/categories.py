"""The global step: which category an ask belongs to, from named examples alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from routers.types import Opinions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.types import Category, ExpertId
    from routers.types import F32, Encoded

_Labels = npt.NDArray[np.int64]
_TEMPERATURES: Final = np.geomspace(0.01, 10, 120)
_PENALTY: Final = 1.0


class ExampleHead:
    """Two views of the examples, added up: the k nearest of each category, and a ridge regression over all.

    Neighbours catch what resembles one example, the regression what resembles none in particular. Each view's
    temperature, and that of their sum, is the one under which the examples, each held out in turn, are likeliest: so
    the confidence is calibrated on text the head has not seen, with no data beyond the examples.
    Source: docs/decisions/0003-category-head.md
    """

    def __init__(self, categories: Sequence[Category], vectors: F32, labels: Sequence[int], *, k: int = 3) -> None:
        self._categories = tuple(categories)
        self._vectors = np.ascontiguousarray(vectors)
        truth: _Labels = np.asarray(labels, np.int64)
        counts = np.bincount(truth, minlength=len(self._categories))
        if counts.min() == 0:
            raise ValueError(f"category {self._categories[int(counts.argmin())]!r} has no example")
        self._k = k
        self._members = [np.flatnonzero(truth == c) for c in range(len(self._categories))]
        self._weights, held_out_ridge = _ridge(_with_one(self._vectors), np.eye(len(self._categories))[truth])
        held_out_near = self._held_out_neighbours()
        testable = counts[truth] > 1  # the only example of its category leaves nothing to compare it with
        self._ridge_t = _fit(held_out_ridge[testable], truth[testable])
        self._near_t = _fit(held_out_near[testable], truth[testable])
        mixed = held_out_ridge / self._ridge_t + held_out_near / self._near_t
        self._mixed_t = _fit(mixed[testable], truth[testable])

    @property
    def categories(self) -> tuple[Category, ...]:
        """The columns of `probabilities`."""
        return self._categories

    @property
    def experts(self) -> tuple[ExpertId, ...]:
        """None: examples say nothing of experts."""
        return ()

    def opinions(self, encoded: Encoded) -> Opinions:
        """Judge a batch by category alone."""
        probabilities = self.probabilities(encoded.vectors)
        none = np.zeros((len(encoded), 0), np.float32)
        return Opinions(probabilities, none, np.zeros(len(encoded), np.float32))

    def probabilities(self, vectors: F32) -> F32:
        """Calibrated category probabilities. Shapes: (B, D) -> (B, C); rows sum to 1."""
        ridge = _with_one(vectors) @ self._weights
        near = self._neighbours(vectors @ self._vectors.T)
        return _softmax(ridge / self._ridge_t + near / self._near_t, self._mixed_t)

    def _neighbours(self, similarities: F32) -> F32:
        """Mean similarity of the k nearest examples of each category. Shapes: (B, N) -> (B, C)."""
        return np.stack([_top_mean(similarities[:, members], self._k) for members in self._members], axis=1)

    def _held_out_neighbours(self) -> F32:
        similarities = self._vectors @ self._vectors.T
        np.fill_diagonal(similarities, -np.inf)
        return self._neighbours(similarities)


def _with_one(vectors: F32) -> F32:
    return np.hstack([vectors, np.ones((len(vectors), 1), np.float32)])


def _ridge(inputs: F32, targets: npt.NDArray[np.float64]) -> tuple[F32, F32]:
    """Weights, and each row's prediction by a regression that has not seen it, from the hat matrix in closed form.

    Shapes: inputs (N, D), targets (N, C) -> weights (D, C), held-out predictions (N, C).
    """
    gram = inputs.T @ inputs + _PENALTY * np.eye(inputs.shape[1])
    solved = np.linalg.solve(gram, inputs.T)
    weights = solved @ targets
    leverage = np.einsum("nd,dn->n", inputs, solved)[:, None]
    held_out = (inputs @ weights - leverage * targets) / (1 - leverage)
    return weights.astype(np.float32), held_out.astype(np.float32)


def _top_mean(similarities: F32, k: int) -> F32:
    """Mean of the k largest entries of each row; entries of -inf (an example held out) do not count."""
    k = min(k, similarities.shape[1])
    top = np.partition(similarities, -k, axis=1)[:, -k:]
    counted = np.isfinite(top)
    total = np.where(counted, top, 0).sum(axis=1)
    return np.asarray(total / np.maximum(counted.sum(axis=1), 1), dtype=np.float32)


def _fit(scores: F32, labels: _Labels) -> float:
    """The temperature under which `labels` are likeliest; 1 where there is nothing to fit."""
    if not len(labels):
        return 1.0
    losses = [_log_loss(_softmax(scores, float(t)), labels) for t in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _softmax(scores: F32, temperature: float) -> F32:
    weights = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _log_loss(probabilities: F32, labels: _Labels) -> float:
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean())
