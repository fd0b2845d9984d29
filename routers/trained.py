"""A trained router's head: parts blended into category probabilities and into the quality to expect of each expert."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from routers.judged import Judged
from routers.parts import Features, KernelPart, Landmarks, NeighbourPart
from routers.types import Opinions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from experts.types import Category, ExpertId
    from routers.lexical import LexicalSpace
    from routers.parts import AnyPart
    from routers.types import F32, Encoded

CROWD = 0.05  # of cosine: landmarks much further off than the nearest do not count
_NOBODY = np.float32(1e-30)
_FLOOR = np.float32(0.02)
_PROBABILITIES = frozenset({KernelPart.kind, NeighbourPart.kind})
_AT_ONCE = 1024  # texts: their similarities to ten thousand in memory take 40 MB
VIEWS = (4, 6)  # layers: the middle one tells fields apart, the last one brings paraphrases together


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """What turns encoded texts into features.

    Shapes: memory (N, D), the last view of the texts fitted on, for evaluation; N = 0 in a lean artifact.
    """

    memory: F32
    landmarks: Landmarks
    lexical: LexicalSpace

    def features(self, encoded: Encoded) -> Features:
        """Raises: ValueError: the vectors do not have both views."""
        size = self.memory.shape[1]
        if encoded.vectors.shape[1] != 2 * size:
            raise ValueError(f"vectors {encoded.vectors.shape} are not two views of {size}")
        last = np.ascontiguousarray(encoded.vectors[:, size:])
        return Features(encoded.vectors[:, :size], last, self.landmarks, self.memory, self.lexical.rows(encoded))


@dataclass(frozen=True, eq=False)
class CategoryBlend:
    """The global step: a weighted sum of the parts' log probabilities, each by its own temperature, then by one more.

    confidence: what the highest probability is worth, by isotonic regression: one of x reads as the y of its place;
    empty leaves it. Shapes: weights, temperatures (P,), in the order of parts; confidence (2, K), x and y both rising.
    """

    parts: Mapping[str, AnyPart]
    weights: F32
    temperatures: F32
    temperature: float
    confidence: F32

    def probabilities(self, raw: Sequence[F32]) -> F32:
        """From each part's scores. Shapes: P of (B, C) -> (B, C); rows sum to 1."""
        mixed = np.zeros_like(raw[0])
        for part, scores, weight, temperature in zip(
            self.parts.values(), raw, self.weights, self.temperatures, strict=True
        ):
            if weight:
                mixed += weight * log_softmax(as_logits(part.kind, scores) / temperature)
        probabilities = np.asarray(np.exp(log_softmax(mixed / np.float32(self.temperature))), np.float32)
        return recalibrated(probabilities, self.confidence) if self.confidence.size else probabilities


@dataclass(frozen=True, eq=False)
class QualityBlend:
    """The local step: a weighted sum of the parts' scores, and of each category's win rates by the probabilities.

    Every expert has weights of its own, so that one that comes later may trust other parts than those before it.
    Shapes: weights (P + 1, E), the last row for the win rates; win_rates (C, E).
    """

    parts: Mapping[str, AnyPart]
    weights: F32
    win_rates: F32

    def qualities(self, features: Features, probabilities: F32) -> F32:
        """Shapes: probabilities (B, C) -> (B, E)."""
        total = self.weights[-1] * (probabilities @ self.win_rates)
        for weight, part in zip(self.weights, self.parts.values(), strict=False):
            if weight.any():
                total = total + weight * part.scores(features)
        return np.asarray(total, np.float32)


@dataclass(frozen=True, eq=False)
class ScopeDetector:
    """Log odds that a text is in scope, a line through what the global step saw of it (`scope_signals`).

    Shapes: weights (2 P + 2,), bias a number.
    """

    weights: F32
    bias: float

    def log_odds(self, signals: F32) -> F32:
        """Shapes: (B, 2 P + 2) -> (B,)."""
        return signals @ self.weights + np.float32(self.bias)


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """What `coe train` makes and the gateway routes by; nothing here learns."""

    categories: tuple[Category, ...]
    experts: tuple[ExpertId, ...]
    space: FeatureSpace
    category: CategoryBlend | None
    quality: QualityBlend | None
    scope: ScopeDetector | None

    def only(self, experts: Sequence[ExpertId]) -> TrainedHead:
        """The same head for some of its experts, in this order; the others' columns do not touch theirs.

        Raises: ValueError: one is not here.
        """
        if self.quality is None or tuple(experts) == self.experts:
            return self
        kept = [self.experts.index(expert) for expert in experts]
        parts = {name: part.columns(kept) for name, part in self.quality.parts.items()}
        blend = QualityBlend(parts, self.quality.weights[:, kept], self.quality.win_rates[:, kept])
        return replace(self, experts=tuple(experts), quality=blend)

    def lean(self) -> TrainedHead:
        """The same decisions without the texts in memory. Raises: ValueError: a part needs them."""
        if self.quality is not None or (self.category is not None and NeighbourPart.kind in self.category.parts):
            raise ValueError("nearest neighbours are judged by all texts")
        return replace(self, space=replace(self.space, memory=self.space.memory[:0]))

    def opinions(self, encoded: Encoded) -> Opinions:
        """Judge a batch."""
        return self._opinions(self.space.features(encoded))

    def judged(self, encoded: Encoded) -> Judged:
        """Judge any number of texts for an evaluation, beside plain nearest neighbours."""
        starts = range(0, max(1, len(encoded)), _AT_ONCE)
        return _joined([self._judged(encoded.select(np.arange(len(encoded))[s : s + _AT_ONCE])) for s in starts])

    def _judged(self, encoded: Encoded) -> Judged:
        features = self.space.features(encoded)
        opinions = self._opinions(features)
        plain = None if self.quality is None else self.quality.parts.get(NeighbourPart.kind)
        knn = np.zeros((len(encoded), 0), np.float32) if plain is None else plain.scores(features)
        nearest = (features.similarities if len(self.space.memory) else features.near).max(axis=1)
        return Judged(
            self.categories,
            self.experts,
            opinions.probabilities,
            opinions.in_scope,
            np.asarray(nearest, np.float32),
            opinions.qualities,
            knn,
        )

    def _opinions(self, features: Features) -> Opinions:
        probabilities, in_scope = np.zeros((len(features), 0), np.float32), np.zeros(len(features), np.float32)
        if self.category is not None:
            raw = [part.scores(features) for part in self.category.parts.values()]
            probabilities = self.category.probabilities(raw)
            if self.scope is not None:
                near, close = features.near, features.closeness(CROWD)
                in_scope = self.scope.log_odds(scope_signals(raw, self.category.temperatures, near, close))
        qualities = np.zeros((len(features), 0), np.float32)
        if self.quality is not None:
            qualities = self.quality.qualities(features, probabilities)
        return Opinions(probabilities, qualities, in_scope)


def _joined(parts: Sequence[Judged]) -> Judged:
    fields = ("probabilities", "in_scope", "nearest", "qualities", "knn_qualities")
    stacked = {name: np.concatenate([getattr(part, name) for part in parts]) for name in fields}
    return Judged(parts[0].categories, parts[0].experts, **stacked)


def scope_signals(raw: Sequence[F32], temperatures: F32, near: F32, close: F32) -> F32:
    """How familiar a text is: its nearest landmark, how many are near, each part's highest score and log-sum-exp.

    close: the neighbourhood at CROWD. Shapes: P of (B, C), near, close (B, L) -> (B, 2 P + 2).
    """
    columns = [near.max(axis=1), np.log(close.sum(axis=1) + _NOBODY)]
    for scores, temperature in zip(raw, temperatures, strict=True):
        columns += [scores.max(axis=1), log_sum_exp(scores / temperature)]
    return np.stack(columns, axis=1).astype(np.float32)


def as_logits(kind: str, scores: F32) -> F32:
    """Scores on the scale that a softmax wants: regressions on 0 and 1 estimate probabilities, so their logarithm.

    Shapes: (B, C) -> (B, C).
    """
    return np.log(np.maximum(scores, _FLOOR)) if kind in _PROBABILITIES else scores


def recalibrated(probabilities: F32, confidence: F32) -> F32:
    """Each row's highest probability as `confidence` reads it, the others sharing what is left as before.

    It is read no lower than lets it stay the highest. Shapes: (B, C), (2, K) -> (B, C).
    """
    rows, best = np.arange(len(probabilities)), probabilities.argmax(axis=1)
    top = probabilities[rows, best]
    others = probabilities.copy()
    others[rows, best] = 0
    shares = others / np.maximum(others.sum(axis=1, keepdims=True), 1e-30)
    second = shares.max(axis=1)
    read = np.maximum(np.interp(top, confidence[0], confidence[1]), second / (1 + second))
    read = np.where(second > 0, read, 1)  # nothing to share what is left
    spread = np.asarray(shares * (1 - read)[:, None], np.float32)
    spread[rows, best] = read
    return spread


def log_softmax(scores: F32) -> F32:
    """Shapes: (B, C) -> (B, C)."""
    return scores - log_sum_exp(scores)[:, None]


def log_sum_exp(scores: F32) -> F32:
    """Shapes: (B, C) -> (B,)."""
    top = scores.max(axis=1)
    return np.asarray(top + np.log(np.exp(scores - top[:, None]).sum(axis=1)), np.float32)
