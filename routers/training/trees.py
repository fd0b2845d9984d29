"""Gradient boosting, one expert at a time, written out as flat arrays that numpy walks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.parts import TreesPart
from routers.training.kernel_fit import column_means
from routers.training.recipes import Plain

if TYPE_CHECKING:
    import numpy.typing as npt

    from routers.training.design import Design
    from routers.types import F32

    Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Trees(Plain):
    """Boosted trees on the first principal axes of both views."""

    rounds: int = 60
    depth: int = 3
    axes: int = 48
    name: str = "trees"

    def fit(self, design: Design, rows: Rows, targets: F32) -> TreesPart:
        """Fit each column on the rows where it is known."""
        from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 - a training extra

        dense = np.hstack([design.middle[rows], design.last[rows]])
        projection = np.linalg.eigh(np.cov(dense, rowvar=False, bias=True))[1][:, ::-1][:, : self.axes].astype(
            np.float32
        )
        inputs, tables, bias = dense @ projection, _Tables(), np.zeros(targets.shape[1], np.float32)
        otherwise = column_means(targets)
        for column in range(targets.shape[1]):
            known = ~np.isnan(targets[:, column])
            if not known.any():
                bias[column] = otherwise[column]
                tables.add([])
                continue
            model = HistGradientBoostingRegressor(
                max_iter=self.rounds, max_depth=self.depth, learning_rate=0.05, min_samples_leaf=40, random_state=0
            )
            model.fit(inputs[known], targets[known, column])
            bias[column] = float(np.ravel(model._baseline_prediction)[0])  # noqa: SLF001 - it has no public name
            tables.add([trees[0].nodes for trees in model._predictors])  # noqa: SLF001 - as above
        return tables.part(self.depth, projection, bias)


class _Tables:
    """Nodes of many trees, numbered through."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._roots: list[list[int]] = []
        self._count = 0

    def add(self, trees: list[Any]) -> None:
        roots = []
        for nodes in trees:
            own = np.arange(len(nodes))
            leaf = nodes["is_leaf"].astype(bool)
            left = np.where(leaf, own, nodes["left"]) + self._count
            right = np.where(leaf, own, nodes["right"]) + self._count
            feature = np.where(leaf, 0, nodes["feature_idx"])
            value = np.where(leaf, nodes["value"], 0)
            self._nodes.append((feature, nodes["num_threshold"], left, right, value))
            roots.append(self._count)
            self._count += len(nodes)
        self._roots.append(roots)

    def part(self, depth: int, projection: F32, bias: F32) -> TreesPart:
        rounds = max(map(len, self._roots))  # a column that cannot be split further has fewer: a leaf of 0 fills up
        zero = (np.zeros(1), np.zeros(1), np.array([self._count]), np.array([self._count]), np.zeros(1))
        feature, threshold, left, right, value = (np.concatenate(c) for c in zip(*self._nodes, zero, strict=True))
        roots = np.array([own + [self._count] * (rounds - len(own)) for own in self._roots], np.int32).T
        return TreesPart(
            depth,
            projection,
            bias,
            np.ascontiguousarray(roots),
            feature.astype(np.int32),
            threshold.astype(np.float32),
            left.astype(np.int32),
            right.astype(np.int32),
            value.astype(np.float32),
        )
