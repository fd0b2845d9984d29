"""The global step: which category an ask belongs to, from named examples alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.types import Category
    from routers.types import F32

_TEMPERATURES: Final = np.geomspace(0.01, 0.5, 60)
_OWN = -np.inf


@dataclass(frozen=True, slots=True)
class CategoryExamples:
    """A category by name, with texts that belong to it."""

    name: Category
    examples: tuple[str, ...]
    description: str = ""


class ExampleHead:
    """Scores a category by the mean similarity of its k nearest examples; softmax at a fitted temperature.

    The temperature is the one under which the examples, each held out in turn, are likeliest: so the confidence is
    calibrated on text the head has not seen, with no data beyond the examples.
    """

    def __init__(self, categories: Sequence[Category], vectors: F32, labels: Sequence[int], *, k: int = 5) -> None:
        self._categories = tuple(categories)
        self._vectors = np.ascontiguousarray(vectors)
        self._labels = np.asarray(labels)
        counts = np.bincount(self._labels, minlength=len(self._categories))
        if counts.min() == 0:
            raise ValueError(f"category {self._categories[int(counts.argmin())]!r} has no example")
        self._k = k
        self._members = [np.flatnonzero(self._labels == c) for c in range(len(self._categories))]
        self.temperature = self._fit_temperature()

    @property
    def categories(self) -> tuple[Category, ...]:
        """The columns of `probabilities`."""
        return self._categories

    def probabilities(self, vectors: F32) -> F32:
        """Calibrated category probabilities. Shapes: (B, D) -> (B, C); rows sum to 1."""
        return _softmax(self._scores(vectors @ self._vectors.T), self.temperature)

    def _scores(self, similarities: F32) -> F32:
        """Mean similarity of the k nearest examples of each category. Shapes: (B, N) -> (B, C)."""
        columns = [_top_mean(similarities[:, members], self._k) for members in self._members]
        return np.stack(columns, axis=1)

    def _fit_temperature(self) -> float:
        similarities = self._vectors @ self._vectors.T
        np.fill_diagonal(similarities, _OWN)
        alone = np.bincount(self._labels, minlength=len(self._categories))[self._labels] == 1
        if alone.all():
            return 0.05  # one example each: nothing can be held out
        scores, labels = self._scores(similarities)[~alone], self._labels[~alone]
        losses = [_log_loss(_softmax(scores, float(t)), labels) for t in _TEMPERATURES]
        return float(_TEMPERATURES[int(np.argmin(losses))])


def _top_mean(similarities: F32, k: int) -> F32:
    """Mean of the k largest entries of each row; entries of -inf (an example held out) do not count."""
    k = min(k, similarities.shape[1])
    top = np.partition(similarities, -k, axis=1)[:, -k:]
    counted = np.isfinite(top)
    total = np.where(counted, top, 0).sum(axis=1)
    return np.asarray(total / np.maximum(counted.sum(axis=1), 1), dtype=np.float32)


def _softmax(scores: F32, temperature: float) -> F32:
    scaled = (scores - scores.max(axis=1, keepdims=True)) / temperature
    weights = np.exp(scaled)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _log_loss(probabilities: F32, labels: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean())
