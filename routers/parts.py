"""The kinds of model that a trained router is blended from; each turns the features of texts into scores.

One kind serves both steps: its columns are categories in the global step and experts in the local step, and no column
depends on another, so that an expert can come or go without touching the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from routers.lexical import LexicalRow, SparseRow
    from routers.types import F32, I32


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Some of the texts fitted on, in few dimensions: near enough to tell what is close to what.

    Shapes: axes (D, S); vectors (L, S), of unit length.
    """

    axes: F32
    vectors: F32

    def cosines(self, last: F32) -> F32:
        """How close texts are to each landmark. Shapes: (B, D) -> (B, L)."""
        return unit_rows(last @ self.axes) @ self.vectors.T


@dataclass(frozen=True, eq=False)
class Features:
    """B texts as every part reads them; what only some parts read is worked out when one does.

    Shapes: middle, last (B, D): the encoder's two views; memory (N, D): the last views of all texts fitted on;
    lexical: B rows.
    """

    middle: F32
    last: F32
    landmarks: Landmarks
    memory: F32
    lexical: Sequence[LexicalRow]

    def __len__(self) -> int:
        return len(self.middle)

    @cached_property
    def near(self) -> F32:
        """The cosine to each landmark. Shapes: (B, L)."""
        return self.landmarks.cosines(self.last)

    def closeness(self, temperature: float) -> F32:
        """The neighbourhood of each landmark. At half a temperature it is the square, so few exponentials are taken.

        Shapes: (B, L).
        """
        known = self._closeness
        if temperature not in known:
            wider = known.get(2 * temperature)
            known[temperature] = neighbourhood(self.near, temperature) if wider is None else wider * wider
        return known[temperature]

    @cached_property
    def _closeness(self) -> dict[float, F32]:
        return {}

    @cached_property
    def similarities(self) -> F32:
        """The cosine to each text in memory: thousands, so no part asks for it that a decision waits for. (B, N)."""
        return self.last @ self.memory.T

    @cached_property
    def dense(self) -> F32:
        """Both views side by side. Shapes: (B, 2 D)."""
        return np.hstack([self.middle, self.last])


class Part(Protocol):
    """One model. O columns: categories or experts."""

    kind: ClassVar[str]

    def scores(self, features: Features) -> F32:
        """Shapes: (B, O)."""

    def columns(self, kept: Sequence[int]) -> Part:
        """The same part for some of its columns."""


@dataclass(frozen=True, eq=False)
class KernelPart:
    """Ridge regression on a sum of kernels: the neighbourhood of the landmarks, and what is linear.

    temperature: how fast a landmark stops to matter with distance. A block of no rows is not used.
    Shapes: bias (O,); near (L, O); dense (2 D, O); words, letters (BUCKETS, O).
    """

    kind: ClassVar[str] = "kernel"
    temperature: float
    bias: F32
    near: F32
    dense: F32
    words: F32
    letters: F32

    def scores(self, features: Features) -> F32:
        """Shapes: (B, O)."""
        total = features.closeness(self.temperature) @ self.near + self.bias
        if len(self.dense):
            total += features.dense @ self.dense
        for row, lexical in enumerate(features.lexical):
            total[row] += _looked_up(lexical.words, self.words) + _looked_up(lexical.letters, self.letters)
        return np.asarray(total, np.float32)

    def columns(self, kept: Sequence[int]) -> KernelPart:
        """The same part for some of its columns."""
        arrays = (self.bias, self.near, self.dense, self.words, self.letters)
        return KernelPart(self.temperature, *(array[..., list(kept)] for array in arrays))


@dataclass(frozen=True, eq=False)
class NeighbourPart:
    """The mean of the k nearest texts' targets, nearer ones weighing more; unknown targets do not count.

    Shapes: targets (N, O), NaN where unknown; prior (O,), for a text none of whose neighbours is known.
    """

    kind: ClassVar[str] = "neighbours"
    k: int
    temperature: float
    targets: F32
    prior: F32

    def scores(self, features: Features) -> F32:
        """Shapes: (B, O)."""
        k = min(self.k, features.similarities.shape[1])
        nearest = np.argpartition(features.similarities, -k, axis=1)[:, -k:]
        similarity = np.take_along_axis(features.similarities, nearest, axis=1)
        weights = np.exp((similarity - similarity.max(axis=1, keepdims=True)) / self.temperature)
        targets = self.targets[nearest]
        known = ~np.isnan(targets)
        weight = np.einsum("bk,bko->bo", weights, known.astype(np.float32))
        total = np.einsum("bk,bko->bo", weights, np.where(known, targets, 0))
        return np.asarray(np.where(weight > 0, total / np.where(weight > 0, weight, 1), self.prior), np.float32)

    def columns(self, kept: Sequence[int]) -> NeighbourPart:
        """The same part for some of its columns."""
        return NeighbourPart(self.k, self.temperature, self.targets[:, list(kept)], self.prior[list(kept)])


@dataclass(frozen=True, eq=False)
class SmootherPart:
    """The mean of the landmarks' targets, nearer ones weighing more: nearest neighbours without the search.

    Shapes: targets (L, O), each the mean of the texts around that landmark.
    """

    kind: ClassVar[str] = "smoother"
    temperature: float
    targets: F32

    def scores(self, features: Features) -> F32:
        """Shapes: (B, O)."""
        weights = features.closeness(self.temperature)
        return np.asarray(weights @ self.targets / weights.sum(axis=1, keepdims=True), np.float32)

    def columns(self, kept: Sequence[int]) -> SmootherPart:
        """The same part for some of its columns."""
        return SmootherPart(self.temperature, self.targets[:, list(kept)])


@dataclass(frozen=True, eq=False)
class LinearPart:
    """A line through both views: logistic regression, ridge, or factors of low rank, multiplied out.

    Shapes: weights (2 D, O), bias (O,).
    """

    kind: ClassVar[str] = "linear"
    weights: F32
    bias: F32

    def scores(self, features: Features) -> F32:
        """Shapes: (B, O)."""
        return np.asarray(features.dense @ self.weights + self.bias, np.float32)

    def columns(self, kept: Sequence[int]) -> LinearPart:
        """The same part for some of its columns."""
        return LinearPart(self.weights[:, list(kept)], self.bias[list(kept)])


@dataclass(frozen=True, eq=False)
class CentroidPart:
    """The cosine to the mean of each column's texts. Shapes: centre (2 D,), taken off first; centroids (O, 2 D)."""

    kind: ClassVar[str] = "centroid"
    centre: F32
    centroids: F32

    def scores(self, features: Features) -> F32:
        """Shapes: (B, O)."""
        return np.asarray(unit_rows(features.dense - self.centre) @ self.centroids.T, np.float32)

    def columns(self, kept: Sequence[int]) -> CentroidPart:
        """The same part for some of its columns."""
        return CentroidPart(self.centre, self.centroids[list(kept)])


@dataclass(frozen=True, eq=False)
class MlpPart:
    """One hidden layer of rectified units. Shapes: inner (2 D, H), inner_bias (H,), outer (H, O), bias (O,)."""

    kind: ClassVar[str] = "mlp"
    inner: F32
    inner_bias: F32
    outer: F32
    bias: F32

    def scores(self, features: Features) -> F32:
        """Shapes: (B, O)."""
        inner = np.maximum(features.dense @ self.inner + self.inner_bias, 0)
        return np.asarray(inner @ self.outer + self.bias, np.float32)

    def columns(self, kept: Sequence[int]) -> MlpPart:
        """The same part for some of its columns."""
        return MlpPart(self.inner, self.inner_bias, self.outer[:, list(kept)], self.bias[list(kept)])


@dataclass(frozen=True, eq=False)
class TreesPart:
    """Boosted regression trees over a projection of both views, each column's trees its own.

    Nodes are numbered through all trees; a leaf is its own child. A tree is T rounds by O columns, `depth` deep.
    Shapes: projection (2 D, P); roots (T, O); feature, threshold, left, right, value (nodes,); bias (O,).
    """

    kind: ClassVar[str] = "trees"
    depth: int
    projection: F32
    bias: F32
    roots: I32
    feature: I32
    threshold: F32
    left: I32
    right: I32
    value: F32

    def scores(self, features: Features) -> F32:
        """Shapes: (B, O)."""
        projected = features.dense @ self.projection
        return np.array([self._one(row) for row in projected], np.float32).reshape(len(features), len(self.bias))

    def _one(self, row: F32) -> F32:
        at = self.roots
        for _ in range(self.depth):
            at = np.where(row[self.feature[at]] <= self.threshold[at], self.left[at], self.right[at])
        return np.asarray(self.value[at].sum(axis=0) + self.bias, np.float32)

    def columns(self, kept: Sequence[int]) -> TreesPart:
        """The same part for some of its columns; the nodes of the others stay, unreached."""
        tables = (self.feature, self.threshold, self.left, self.right, self.value)
        return TreesPart(self.depth, self.projection, self.bias[list(kept)], self.roots[:, list(kept)], *tables)


AnyPart: TypeAlias = KernelPart | NeighbourPart | SmootherPart | LinearPart | CentroidPart | MlpPart | TreesPart
PARTS: Final[dict[str, type[AnyPart]]] = {
    part.kind: part for part in (KernelPart, NeighbourPart, SmootherPart, LinearPart, CentroidPart, MlpPart, TreesPart)
}


def unit_rows(rows: F32) -> F32:
    """The same directions at length 1; a row of zeros stays. Shapes: kept."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), np.float32)


def neighbourhood(cosines: F32, temperature: float) -> F32:
    """The kernel of closeness: 1 for the same direction, falling with the distance. Shapes: kept."""
    return np.asarray(np.exp((cosines - 1) / np.float32(temperature)), np.float32)


def _looked_up(row: SparseRow, table: F32) -> F32 | float:
    return row.weights @ table[row.buckets] if len(table) else 0.0
