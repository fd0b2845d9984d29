"""One ranking out of several: by ranks, which share a scale, or by scores, once they are put on one.

Ranks lose how sure a ranker was; scores keep it, but for each ranker on a scale of its own, so they are normalised over
the candidates of one query first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from experts.retrieval.ranking import Ranked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    F64 = NDArray[np.float64]

Normalisation = Literal["z", "min_max"]
RANK_CONSTANT: Final = 60  # Cormack et al. (2009); smaller trusts the very first ranks more
_TINY: Final = 1e-9


def reciprocal_rank(
    rankings: Sequence[Ranked], weights: Sequence[float] | None = None, constant: float = RANK_CONSTANT
) -> Ranked:
    """Fuse by the sum over rankings of weight / (constant + rank), ranks from 1; who is not in one gets nothing there.

    Equal sums keep the order in which documents first come, ranking by ranking.
    Raises: ValueError: the weights are not one a ranking.
    Source: Cormack, Clarke, Buettcher (SIGIR 2009).
    """
    chosen = [1.0] * len(rankings) if weights is None else weights
    sums: dict[str, float] = {}
    for ranking, weight in zip(rankings, chosen, strict=True):
        for rank, name in enumerate(ranking.ids, 1):
            sums[name] = sums.get(name, 0.0) + weight / (constant + rank)
    return by_score(list(sums), np.array(list(sums.values()), np.float64))


def weighted_sum(scores: Sequence[F64], weights: Sequence[float], how: Normalisation = "z") -> F64:
    """Normalise each ranker's scores of the same candidates, then add them up by weight.

    A ranker that scores every candidate the same says nothing and adds 0.
    Shapes: scores (C,) each -> (C,). Raises: ValueError: the weights are not one a ranker.
    """
    total = np.zeros(len(scores[0]) if scores else 0)
    for values, weight in zip(scores, weights, strict=True):
        total += weight * normalised(values, how)
    return total


def normalised(scores: F64, how: Normalisation) -> F64:
    """z: mean 0, deviation 1. min_max: 0 to 1. Shapes: (C,) -> (C,)."""
    if not len(scores):
        return scores
    low, scale = (scores.mean(), scores.std()) if how == "z" else (scores.min(), scores.max() - scores.min())
    shifted: F64 = (scores - low) / scale if scale > _TINY else np.zeros_like(scores)
    return shifted


def by_score(ids: Sequence[str], scores: F64, count: int | None = None) -> Ranked:
    """The best `count` of the candidates, or all of them; equal scores keep their order."""
    order = np.argsort(-scores, kind="stable")[:count]
    return Ranked(tuple(ids[row] for row in order), tuple(float(scores[row]) for row in order))
