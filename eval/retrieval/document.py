"""What an evaluation of retrieval found, as JSON: the keys of these documents stay; new ones may come beside them."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - a struct's field
from typing import Final

import msgspec

from eval.metrics.intervals import Interval, Resampling  # noqa: TC001 - as above

SCHEMA: Final = 1


class SystemFigures(msgspec.Struct, frozen=True):
    """One system on one collection. gain: of `auto` over it in nDCG@10, paired by query; null for `auto` itself."""

    ndcg_at_10: Interval
    recall_at_100: Interval
    mrr: Interval
    gain: Interval | None


class SetFigures(msgspec.Struct, frozen=True):
    """One collection. The figures without a prefix are of `auto`, what is served by default.

    n: queries with a relevant document. oracle: for each query the better of BM25 and the general embedder, in
    hindsight. systems: every one with its intervals, by name.
    """

    n: int
    documents: int
    ndcg_at_10: float
    recall_at_100: float
    mrr: float
    bm25_ndcg_at_10: float
    dense_ndcg_at_10: float
    hybrid_ndcg_at_10: float
    oracle_ndcg_at_10: float
    systems: Mapping[str, SystemFigures]


class Means(msgspec.Struct, frozen=True):
    """One system over all collections, each counting the same. gain: of `auto` over it; null for `auto` itself."""

    ndcg_at_10: Interval
    recall_at_100: float
    mrr: float
    gain: Interval | None


class RetrievalDocument(msgspec.Struct, frozen=True):
    """An evaluation. dataset_oracle: the mean of the best single system of each collection, chosen in hindsight."""

    kind: str
    schema: int
    date: str
    command: tuple[str, ...]
    embedder: str
    resampling: Resampling
    sets: Mapping[str, SetFigures]
    mean_ndcg_at_10: float
    mean_recall_at_100: float
    mean_mrr: float
    dataset_oracle_ndcg_at_10: float
    means: Mapping[str, Means]
    seconds: float
