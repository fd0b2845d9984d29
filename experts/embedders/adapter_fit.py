"""Fits a query adapter: contrastively, in numpy, with the base encoder frozen and every document vector known.

Each step takes some queries and, as candidates, their relevant documents and hard negatives of each: those the base
ranks high and nobody called relevant. All candidates of a step are negatives of every query that they are not relevant
to. The loss is the cross entropy between the softmax over cosines and the query's relevant ones, in equal shares.
The weights kept are those that ranked the held-out queries best; the base itself is the first of them,
so an adapter that learns nothing moves nothing. Training stops when they have not improved for a while.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from experts.embedders.adapter import QueryAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]
    I64 = NDArray[np.int64]

_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8  # Adam's moments, as everywhere
_CUT: Final = 10
_SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the corpus mean, that a fit may start without; the base first


class Weights(NamedTuple):
    """An adapter's, or of the same shapes. Shapes: down (D, R), up (R, D), bias (D,)."""

    down: F32
    up: F32
    bias: F32


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How to fit. decay: how much weights are drawn to zero. patience: epochs without a better one before it stops.

    part: of `parts` that the queries are cut in, the one held out. The seed alone says how they are cut.
    """

    rank: int = 32
    temperature: float = 0.1
    rate: float = 2e-3
    decay: float = 1e-2
    batch: int = 64
    hard_negatives: int = 64
    epochs: int = 200
    patience: int = 15
    parts: int = 5
    part: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Queries with the rows of their relevant documents. Shapes: queries (Q, D), documents (N, D), relevant (Q,)."""

    queries: F32
    documents: F32
    relevant: tuple[tuple[int, ...], ...]

    def only(self, rows: I64) -> Pairs:
        """Some of the queries."""
        return Pairs(self.queries[rows], self.documents, tuple(self.relevant[row] for row in rows))


@dataclass(frozen=True, slots=True, eq=False)
class FitState:
    """Where a fit stands after `epoch` epochs; from here it goes on as if it had not stopped.

    scores: nDCG@10 on the held-out queries after each epoch, the base's first.
    """

    epoch: int
    steps: int
    weights: Weights
    first: Weights
    second: Weights
    best: Weights
    scores: tuple[float, ...]

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept; 0 is the base."""
        return int(np.argmax(self.scores))

    @property
    def adapter(self) -> QueryAdapter:
        """The adapter of the best weights."""
        return QueryAdapter(*self.best)


def fit_adapter(
    pairs: Pairs,
    settings: FitSettings,
    *,
    state: FitState | None = None,
    on_epoch: Callable[[FitState], None] | None = None,
) -> FitState:
    """Fit, from a state if one is given; `on_epoch` hears of every state. Same input, same weights.

    Raises: ValueError: fewer than two queries: none could be held out.
    """
    held_out = held_out_rows(len(pairs.queries), settings)
    learning = pairs.only(np.setdiff1d(np.arange(len(pairs.queries)), held_out))
    judging = pairs.only(held_out)
    negatives = hard_negatives(learning, settings.hard_negatives)
    now = state or _start(pairs, judging, settings)
    while now.epoch < settings.epochs and now.epoch - now.best_epoch < settings.patience:
        now = _epoch(now, learning, negatives, settings)
        score = ndcg(QueryAdapter(*now.weights)(judging.queries), judging)
        better = score > max(now.scores)
        now = replace(now, scores=(*now.scores, score), best=now.weights if better else now.best)
        if on_epoch is not None:
            on_epoch(now)
    return now


def ndcg(queries: F32, pairs: Pairs) -> float:
    """Mean nDCG@10 of moved queries over their documents. Shapes: queries (Q, D), those of the pairs in their order."""
    return float(ndcg_each(queries, pairs).mean())


def ndcg_each(queries: F32, pairs: Pairs) -> F64:
    """nDCG@10 of each, every relevant document counting the same; equal cosines in the order of the documents.

    Shapes: queries (Q, D) -> (Q,).
    """
    discounts = 1 / np.log2(np.arange(2, _CUT + 2))
    values = np.empty(len(queries))
    for row, (query, relevant) in enumerate(zip(queries, pairs.relevant, strict=True)):
        top = np.argsort(-(pairs.documents @ query), kind="stable")[:_CUT]
        gained = discounts[: len(top)][np.isin(top, relevant)].sum()
        values[row] = gained / discounts[: min(_CUT, len(relevant))].sum()
    return values


def hard_negatives(pairs: Pairs, count: int) -> tuple[I64, ...]:
    """For each query the documents that the base ranks highest and that are not relevant to it."""
    found = []
    for query, relevant in zip(pairs.queries, pairs.relevant, strict=True):
        order = np.argsort(-(pairs.documents @ query), kind="stable")[: count + len(relevant)]
        found.append(order[~np.isin(order, relevant)][:count])
    return tuple(found)


def loss_and_gradient(
    weights: Weights, queries: F32, candidates: F32, target: F32, temperature: float
) -> tuple[float, Weights]:
    """Cross entropy of the softmax over candidates against the target, and its gradient in the weights.

    Shapes: queries (B, D), candidates (C, D), target (B, C), rows summing to 1.
    """
    down, up, bias = weights
    inner = queries @ down
    moved = queries + inner @ up + bias
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    unit = moved / lengths
    logits = unit @ candidates.T / temperature
    logits -= logits.max(axis=1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    slope = (np.exp(logs) - target) / (len(queries) * temperature) @ candidates
    slope = (slope - unit * (slope * unit).sum(axis=1, keepdims=True)) / lengths
    loss = -float((target * logs).sum()) / len(queries)
    return loss, Weights(queries.T @ (slope @ up.T), inner.T @ slope, slope.sum(axis=0))


def averaged(adapters: Sequence[QueryAdapter]) -> QueryAdapter:
    """One adapter that moves a query by the mean of what these do. Shapes: its rank is the sum of theirs."""
    down = np.concatenate([adapter.down for adapter in adapters], axis=1)
    up: F32 = (np.concatenate([adapter.up for adapter in adapters]) / len(adapters)).astype(np.float32)
    bias: F32 = np.mean([adapter.bias for adapter in adapters], axis=0)
    return QueryAdapter(down, up, bias)


def held_out_rows(count: int, settings: FitSettings) -> I64:
    """The queries that a fit of so many holds out. Raises: ValueError: fewer than two."""
    if count < 2:  # noqa: PLR2004 - one to learn from, one to judge by
        raise ValueError(f"{count} queries: none could be held out")
    parts = min(settings.parts, count)
    order = np.random.default_rng(settings.seed).permutation(count)
    return np.sort(np.array_split(order, parts)[settings.part % parts])


def _start(pairs: Pairs, judging: Pairs, settings: FitSettings) -> FitState:
    """The base, or the base with a share of the corpus mean taken off, whichever ranks all the given queries best."""
    dimensions = pairs.queries.shape[1]
    down = np.random.default_rng((settings.seed, settings.part)).normal(
        0, dimensions**-0.5, (dimensions, settings.rank)
    )
    up, none = np.zeros((settings.rank, dimensions), np.float32), np.zeros(dimensions, np.float32)
    centre: F32 = pairs.documents.mean(axis=0)
    starts = [Weights(down.astype(np.float32), up, (none - share * centre).astype(np.float32)) for share in _SHARES]
    weights = max(starts, key=lambda start: ndcg(QueryAdapter(*start)(pairs.queries), pairs))
    zeros = Weights(np.zeros_like(weights.down), up, none)
    return FitState(0, 0, weights, zeros, zeros, weights, (ndcg(QueryAdapter(*weights)(judging.queries), judging),))


def _epoch(state: FitState, pairs: Pairs, negatives: Sequence[I64], settings: FitSettings) -> FitState:
    order = np.random.default_rng((settings.seed, settings.part, state.epoch)).permutation(len(pairs.queries))
    for start in range(0, len(order), settings.batch):
        rows = order[start : start + settings.batch]
        relevant = [pairs.relevant[row] for row in rows]
        candidates = np.unique(np.concatenate([*(negatives[row] for row in rows), *map(np.array, relevant)])).astype(
            int
        )
        target = np.stack([np.isin(candidates, own) / len(own) for own in relevant]).astype(np.float32)
        _, gradient = loss_and_gradient(
            state.weights, pairs.queries[rows], pairs.documents[candidates], target, settings.temperature
        )
        state = _step(state, gradient, settings)
    return replace(state, epoch=state.epoch + 1)


def _step(state: FitState, gradient: Weights, settings: FitSettings) -> FitState:
    """One step of Adam with decay towards the base. `down` is not drawn: with `up` at zero it moves nothing."""
    steps = state.steps + 1
    decays = (0.0, settings.decay, settings.decay)
    slopes: list[F32] = [
        slope + decay * weight for slope, decay, weight in zip(gradient, decays, state.weights, strict=True)
    ]
    first: list[F32] = [_FIRST * old + (1 - _FIRST) * slope for old, slope in zip(state.first, slopes, strict=True)]
    second: list[F32] = [
        _SECOND * old + (1 - _SECOND) * slope**2 for old, slope in zip(state.second, slopes, strict=True)
    ]
    rate = settings.rate * np.sqrt(1 - _SECOND**steps) / (1 - _FIRST**steps)
    weights: list[F32] = [
        (weight - rate * mean / (np.sqrt(square) + _TINY)).astype(np.float32)
        for weight, mean, square in zip(state.weights, first, second, strict=True)
    ]
    return replace(state, steps=steps, weights=Weights(*weights), first=Weights(*first), second=Weights(*second))
