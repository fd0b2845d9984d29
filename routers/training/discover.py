"""Categories that nobody named: prompts that are alike and on which the experts do alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from experts.errors import ConfigError
from experts.types import Category
from routers.training.design import Design
from routers.training.folds import held_out_folds, plain
from routers.training.recipes import Neighbours

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from routers.training.fit import LearningSet
    from routers.types import F32

_TEMPERATURE: Final = 0.1
_LEAST_NEAR, _MOST_NEAR, _SHARE_NEAR = 5, 100, 20  # neighbours: a twentieth of the texts, within these bounds
_OUTCOMES_WEIGHT: Final = 1.0  # of the spread that the vectors have: both count alike
_STARTS: Final = 4
_FEWEST: Final = 2  # different texts: a category of one can be held out of no fit
_EXCERPT_CHARS: Final = 160


@dataclass(frozen=True, eq=False)
class Discovered:
    """What was learned from, with the categories found; and for each its texts, the most typical first."""

    known: LearningSet
    typical: Mapping[Category, tuple[str, ...]]

    def examples(self, count: int) -> dict[str, tuple[str, ...]]:
        """The beginnings of the most typical texts."""
        return {name: tuple(text[:_EXCERPT_CHARS] for text in own[:count]) for name, own in self.typical.items()}


def discover(known: LearningSet, count: int, seed: int = 0) -> Discovered:
    """Cluster the texts into `count` categories, the largest first; labels they may have are not looked at.

    A text is placed by its vector and by what its neighbours' outcomes say of each expert on it, compared with the
    other experts. Its own outcome is not among those: one draw says little, and would make the figures flatter.
    Raises: ConfigError: no outcomes, or fewer texts than categories of two.
    """
    if known.scores is None or np.isnan(known.scores).all():
        raise ConfigError("--discover", count, "needs outcomes")
    if not 1 < count <= len(known.labels) // _FEWEST:
        problem = f"must be at least 2, and {len(known.labels)} texts make {len(known.labels) // _FEWEST} at most"
        raise ConfigError("--discover", count, problem)
    from sklearn.cluster import KMeans  # noqa: PLC0415 - a training extra

    places = _places(known, known.scores)
    model = KMeans(count, n_init=_STARTS, random_state=seed).fit(places)
    return _named(known, model.labels_, model.transform(places).min(axis=1))


def _places(known: LearningSet, scores: F32) -> F32:
    """Where each text lies. Shapes: -> (N, D + E)."""
    design = Design(known.encoded)
    folds = held_out_folds(known.encoded.texts, np.full(len(design), -1))
    near = min(max(len(design) // _SHARE_NEAR, _LEAST_NEAR), _MOST_NEAR)
    expected = Neighbours(near, _TEMPERATURE).out_of_fold(design, scores, folds)
    better = expected - expected.mean(axis=1, keepdims=True)
    better -= better.mean(axis=0)
    vectors = design.last - design.last.mean(axis=0)
    scale = np.sqrt((vectors**2).sum() / max(float((better**2).sum()), 1e-12))
    return np.hstack([vectors, np.float32(_OUTCOMES_WEIGHT * scale) * better])


def _named(known: LearningSet, cluster: npt.NDArray[np.int32], distance: F32) -> Discovered:
    labels: list[Category | None] = [None] * len(cluster)
    typical: dict[Category, tuple[str, ...]] = {}
    texts, sizes = known.encoded.texts, np.bincount(cluster)
    for own in np.argsort(-sizes, kind="stable"):
        rows = np.flatnonzero(cluster == own)
        rows = rows[np.argsort(distance[rows], kind="stable")]
        if len({plain(texts[i]) for i in rows}) < _FEWEST:
            continue  # its text stays without a category
        name = Category(f"cluster-{len(typical) + 1:02}")
        typical[name] = tuple(texts[i] for i in rows)
        for i in rows:
            labels[i] = name
    return Discovered(replace(known, labels=tuple(labels)), typical)
