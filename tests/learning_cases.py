"""Texts that a router can learn from, made by hand: three fields, each with an expert that is good at it."""

from __future__ import annotations

import numpy as np

from experts.types import Category, ExpertId
from routers.parts import Features, Landmarks
from routers.trained import FeatureSpace
from routers.training.design import Design
from routers.training.fit import LearningSet
from routers.types import F32, Encoded

SIZE = 8  # of one view
FIELDS = ("art", "code", "law")
EXPERTS = ("artist", "coder", "lawyer", "anyone")
CHANCES = np.array([[0.9, 0.3, 0.3, 0.5], [0.3, 0.9, 0.3, 0.5], [0.3, 0.3, 0.9, 0.5]], np.float32)
_PIECES = 40  # word pieces that any text may have; those of a field are above


def fields(n: int, count: int = 3) -> list[int]:
    """Which field each text is of: they take turns."""
    return [i % count for i in range(n)]


def texts(n: int, seed: int = 0, *, count: int = 3, noise: float = 0.25, strange: bool = False) -> Encoded:
    """Texts whose two views lie around their field's centre. strange: of fields that nobody knows."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99 if strange else 7).normal(size=(8, 2, SIZE)) / SIZE**0.5
    own = fields(n, count)
    views = centres[own] + noise * random.normal(size=(n, 2, SIZE))
    views /= np.linalg.norm(views, axis=2, keepdims=True)
    first = 200 if strange else 100
    pieces = tuple(
        np.concatenate([[first + 3 * f + int(p % 3) for p in random.integers(0, 9, 2)], random.integers(0, _PIECES, 5)])
        for f in own
    )
    words = tuple(f"{seed}-{i} " + " ".join(f"w{p}" for p in row) for i, row in enumerate(pieces))
    return Encoded(words, views.reshape(n, -1).astype(np.float32), (False,) * n, (9,) * n, pieces)


def labels(n: int, count: int = 3) -> tuple[Category | None, ...]:
    names = [*FIELDS, "a", "b", "c", "d", "e"]
    return tuple(Category(names[f]) for f in fields(n, count))


def scores(n: int, seed: int = 0, unknown: float = 0.0) -> F32:
    """What the experts scored; each outcome is unknown with this chance."""
    random = np.random.default_rng(seed + 1000)
    drawn = (random.random((n, len(EXPERTS))) < CHANCES[fields(n)]).astype(np.float32)
    drawn[random.random(drawn.shape) < unknown] = np.nan
    return drawn


def learning(n: int, seed: int = 0, *, unknown: float = 0.0) -> LearningSet:
    """Texts with their fields and the experts' scores."""
    experts = tuple(map(ExpertId, EXPERTS))
    return LearningSet(texts(n, seed), labels(n), np.ones(n, np.bool_), experts, scores(n, seed, unknown))


def seen(design: Design, encoded: Encoded) -> Features:
    """Other texts as a part sees them that was fitted on all of the design's."""
    return FeatureSpace(design.last, design.landmarks, design.space).features(encoded)


def bare(middle: F32, last: F32) -> Features:
    """Texts by their views alone: nothing in memory, no n-grams."""
    none = np.zeros((0, last.shape[1]), np.float32)
    return Features(middle, last, Landmarks(np.eye(last.shape[1], dtype=np.float32), none), none, [])


def at(cosines: F32) -> Features:
    """Texts by how close they are to each text in memory. Shapes: (B, N)."""
    last = np.eye(len(cosines), dtype=np.float32)
    return Features(last, last, Landmarks(last, cosines.T), cosines.T, [])
