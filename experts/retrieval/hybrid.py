"""Search by vector and by words together, then by what the candidates say of each other.

1. Centre: half of the collection's mean vector is taken off the query's, so that what all documents have in common
   counts less.
2. Candidates: the nearest by vector and the best by words. Each ranker's scores are put on one scale, by which its best
   candidate has 1, and added up.
3. Agreement: a candidate gets a share of the score of the candidates most like it. Relevant documents resemble each
   other, those that match by accident do not (the cluster hypothesis; Diaz, CIKM 2005, regularises scores so).

The defaults were chosen on five collections, each left out in turn: docs/decisions/0012.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from experts.embedders.adapter import unit_rows
from experts.retrieval.fusion import by_score
from experts.retrieval.ranking import Ranked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]

_TINY = 1e-9


class VectorIndex(Protocol):
    """A collection by its documents' unit vectors."""

    @property
    def centre(self) -> F32:
        """Their mean. Shapes: (D,)."""

    def nearest(self, query: F32, count: int) -> Ranked:
        """The documents of the largest inner product. Shapes: query (D,), of any length."""

    def compare(self, query: F32, ids: Sequence[str]) -> F32:
        """The inner products that `nearest` ranks by. Shapes: query (D,), C ids -> (C,)."""

    def vectors(self, ids: Sequence[str]) -> F32:
        """The vectors of these, by which they are compared with each other. Shapes: C ids -> (C, D)."""


@dataclass(frozen=True, slots=True)
class HybridSettings:
    """How to search; see the module. lexical_weight: the rest is the vectors'; a collection may have its own.

    centring: of the query, 0 for a query expert's, which has learnt what to take off; agreement_centring: of documents
    that are compared with each other.
    candidates: of each ranker. agreeing: the candidates that the agreement step looks at; neighbours: of each of them,
    the most alike that count; agreement: their share of its score.
    """

    lexical_weight: float = 0.5
    centring: float = 0.5
    agreement_centring: float = 0.5
    candidates: int = 200
    agreeing: int = 100
    neighbours: int = 3
    agreement: float = 0.4


DEFAULTS = HybridSettings()


def hybrid_search(
    vectors: VectorIndex, query: F32, words: Ranked, count: int, settings: HybridSettings = DEFAULTS
) -> Ranked:
    """The `count` best documents for a query vector and the ranking that a lexical search gave for its text.

    words: its `settings.candidates` best; a document that is not among them has a lexical score of 0, and one that is
    not among the nearest is compared with the query all the same.
    Shapes: query (D,), a unit vector of any expert whose documents these are.
    """
    centred = query - settings.centring * vectors.centre
    near = vectors.nearest(centred, settings.candidates)
    ids = list(dict.fromkeys((*near.ids, *words.ids[: settings.candidates])))
    if not ids:
        return Ranked((), ())
    cosines = vectors.compare(centred, ids).astype(np.float64)
    usual = float(vectors.centre @ centred)
    lexical = dict(zip(words.ids, words.scores, strict=True))
    matched = np.array([lexical.get(name, 0.0) for name in ids])
    weight = settings.lexical_weight
    fused = weight * against_best(matched, 0.0) + (1 - weight) * against_best(cosines, usual)
    return _agreed(by_score(ids, fused), vectors, settings).top(count)


def against_best(scores: F64, usual: float) -> F64:
    """Scores on the scale where `usual` is 0 and the best one 1; all 0 where none is better than usual."""
    span = float(scores.max(initial=usual)) - usual
    scaled: F64 = (scores - usual) / span if span > _TINY else np.zeros_like(scores)
    return scaled


def agreement(scores: F64, similarities: F64, neighbours: int, share: float) -> F64:
    """Each score mixed with the mean score of the most similar others, weighted by similarity.

    Scores are put between 0 and 1 first; an item that resembles none keeps nothing but the rest of its own.
    Shapes: scores (C,), similarities (C, C) -> (C,).
    """
    span = scores.max() - scores.min()
    own = (scores - scores.min()) / span if span > _TINY else np.zeros_like(scores)
    links = np.maximum(similarities, 0)
    np.fill_diagonal(links, 0)
    if neighbours < len(links):
        least = -np.partition(-links, neighbours - 1, axis=1)[:, neighbours - 1 : neighbours]
        links = np.where(links >= least, links, 0)
    links /= np.maximum(links.sum(axis=1, keepdims=True), _TINY)
    mixed: F64 = (1 - share) * own + share * (links @ own)
    return mixed


def _agreed(fused: Ranked, vectors: VectorIndex, settings: HybridSettings) -> Ranked:
    """The first candidates in the order of the agreement step, the others behind them as they were.

    Scores fall on from the last agreed one, so that they never rise.
    """
    first, rest = fused.top(settings.agreeing), fused.ids[settings.agreeing :]
    if settings.agreement == 0 or len(first.ids) < 2:  # noqa: PLR2004 - one has nobody to agree with
        return fused
    rows = unit_rows(vectors.vectors(first.ids) - settings.agreement_centring * vectors.centre).astype(np.float64)
    scores = agreement(np.array(first.scores), rows @ rows.T, settings.neighbours, settings.agreement)
    agreed = by_score(first.ids, scores)
    drop = agreed.scores[-1] - fused.scores[len(first.ids)] if rest else 0.0
    behind = tuple(min(score + drop, agreed.scores[-1]) for score in fused.scores[len(first.ids) :])
    return Ranked((*agreed.ids, *rest), (*agreed.scores, *behind))
