"""One more expert in a head that is already fitted: its own column in every part, nobody else's touched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar, assert_never

import numpy as np

from experts.errors import ConfigError
from routers.parts import (
    CentroidPart,
    KernelPart,
    LinearPart,
    MlpPart,
    NeighbourPart,
    SmootherPart,
    TreesPart,
    neighbourhood,
    unit_rows,
)
from routers.trained import QualityBlend

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from experts.types import ExpertId
    from routers.lexical import SparseRow
    from routers.parts import AnyPart
    from routers.trained import TrainedHead
    from routers.types import F32, Encoded

Table = TypeVar("Table", bound="npt.NDArray[Any]")

FEWEST: Final = 20  # outcomes: below that a column is little more than a mean
_PENALTY: Final = 10.0
_JITTER: Final = 1e-3  # the neighbourhood kernel of near-duplicates is nearly singular
_PRIOR_TEXTS: Final = 10.0  # as many texts of the overall mean are added to each category


@dataclass(frozen=True, eq=False)
class Column:
    """What is fitted of the new expert.

    Shapes: near, at_landmarks (L,), words (BUCKETS,), at_memory (N,), win_rates (C,).
    """

    mean: float
    near: F32
    at_landmarks: F32
    words: F32
    at_memory: F32
    win_rates: F32


def with_expert(head: TrainedHead, expert: ExpertId, encoded: Encoded, scores: F32) -> tuple[TrainedHead, F32]:
    """The head with one expert more, fitted on its outcomes alone, and its expected quality on the texts in memory.

    Its column is a ridge regression by the kernel part's own settings, written over the landmarks; the blend
    trusts that part with all that it does not give to the categories. Neither categories nor other experts change.
    Shapes: scores (M,), in the order of the texts -> (N,).
    Raises: ConfigError: the expert is there already, too few outcomes, or the head has no kernel part for experts.
    """
    quality = head.quality
    kernel = None if quality is None else quality.parts.get(KernelPart.kind)
    if expert in head.experts:
        raise ConfigError("expert", expert, "is in the artifact already")
    if len(scores) < FEWEST:
        raise ConfigError("expert", expert, f"has {len(scores)} outcomes, needs at least {FEWEST}")
    if quality is None or not isinstance(kernel, KernelPart):
        raise ConfigError("expert", expert, "the artifact has no kernel part that a new expert could be added to")
    column = _fitted(head, kernel, encoded, scores)
    parts = {name: _with_column(part, column) for name, part in quality.parts.items()}
    weights = np.zeros((len(quality.weights), 1), np.float32)
    weights[-1] = quality.weights[-1].mean() if len(column.win_rates) else 0
    weights[list(parts).index(KernelPart.kind)] = 1 - weights[-1]
    blend = QualityBlend(
        parts, np.hstack([quality.weights, weights]), np.hstack([quality.win_rates, column.win_rates[:, None]])
    )
    return replace(head, experts=(*head.experts, expert), quality=blend), column.at_memory


def _fitted(head: TrainedHead, kernel: KernelPart, encoded: Encoded, scores: F32) -> Column:
    features, landmarks = head.space.features(encoded), head.space.landmarks
    rows = _dense([row.words for row in features.lexical], len(kernel.words))
    sketched = unit_rows(features.last @ landmarks.axes)
    gram = neighbourhood(sketched @ sketched.T, kernel.temperature) + rows @ rows.T
    mean = float(scores.mean())
    dual = np.linalg.solve(gram + _PENALTY * np.eye(len(gram)), scores - mean)
    at_landmarks = neighbourhood(features.near, kernel.temperature).T @ dual
    own = neighbourhood(landmarks.vectors @ landmarks.vectors.T, kernel.temperature)
    own[np.diag_indices(len(own))] += np.float32(_JITTER)
    near = np.linalg.solve(own, at_landmarks.astype(np.float32))
    at_memory = neighbourhood(landmarks.cosines(head.space.memory), kernel.temperature) @ near
    return Column(
        mean,
        near,
        np.clip(at_landmarks + mean, 0, 1).astype(np.float32),
        np.asarray(rows.T @ dual, np.float32),
        np.clip(at_memory + mean, 0, 1).astype(np.float32),
        _win_rates(head, encoded, scores, mean),
    )


def _win_rates(head: TrainedHead, encoded: Encoded, scores: F32, mean: float) -> F32:
    """By the categories that the head itself sees in the texts; they need no label."""
    shares = head.opinions(encoded).probabilities
    return np.asarray((shares.T @ scores + _PRIOR_TEXTS * mean) / (shares.sum(axis=0) + _PRIOR_TEXTS), np.float32)


def _dense(rows: Sequence[SparseRow], buckets: int) -> F32:
    """A few hundred sparse rows, written out; all zero where the part has no such table. Shapes: -> (M, buckets)."""
    dense = np.zeros((len(rows), buckets), np.float32)
    for number, row in enumerate(rows) if buckets else ():
        dense[number, row.buckets] = row.weights
    return dense


def _with_column(part: AnyPart, column: Column) -> AnyPart:
    """The part with one column more: the fit itself in the kernel, the mean in parts that the blend will not ask."""
    mean = np.float32(column.mean)
    if isinstance(part, KernelPart):
        return KernelPart(
            part.temperature,
            np.append(part.bias, mean),
            _appended(part.near, column.near),
            _appended(part.dense, np.zeros(len(part.dense), np.float32)),
            _appended(part.words, column.words),
            _appended(part.letters, np.zeros(len(part.letters), np.float32)),
        )
    if isinstance(part, NeighbourPart):
        return NeighbourPart(
            part.k, part.temperature, _appended(part.targets, column.at_memory), np.append(part.prior, mean)
        )
    if isinstance(part, SmootherPart):
        return SmootherPart(part.temperature, _appended(part.targets, column.at_landmarks))
    if isinstance(part, LinearPart):
        none = np.zeros(len(part.weights), np.float32)
        return LinearPart(_appended(part.weights, none), np.append(part.bias, mean))
    if isinstance(part, MlpPart):
        return replace(
            part, outer=_appended(part.outer, np.zeros(len(part.outer), np.float32)), bias=np.append(part.bias, mean)
        )
    if isinstance(part, TreesPart):
        return _with_leaf(part, mean)
    if isinstance(part, CentroidPart):
        raise TypeError("centroids tell categories apart, not experts")
    assert_never(part)


def _with_leaf(part: TreesPart, mean: np.float32) -> TreesPart:
    """Every tree of the new column is one leaf of value 0."""
    leaf = np.int32(len(part.value))
    return replace(
        part,
        bias=np.append(part.bias, mean),
        roots=_appended(part.roots, np.full(len(part.roots), leaf, np.int32)),
        feature=np.append(part.feature, np.int32(0)),
        threshold=np.append(part.threshold, np.float32(0)),
        left=np.append(part.left, leaf),
        right=np.append(part.right, leaf),
        value=np.append(part.value, np.float32(0)),
    )


def _appended(table: Table, column: Table) -> Table:
    wider: Table = np.hstack([table, column[:, None]])  # type: ignore[assignment]  # numpy's stubs widen the dtype
    return wider
