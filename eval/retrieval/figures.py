"""Rankings of every system on every collection, put into the document: means, intervals, what `auto` gains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from eval.metrics.intervals import Interval, mean_interval, paired_interval
from eval.retrieval.document import Means, SetFigures, SystemFigures
from eval.retrieval.measures import per_query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eval.metrics.intervals import Resampling
    from eval.metrics.shapes import F64
    from eval.retrieval.collection import Collection
    from experts.retrieval.ranking import Ranked

    Measured = Mapping[str, Mapping[str, F64]]  # system -> measure -> a value a query

AUTO: Final = "auto"
BM25, DENSE, HYBRID, ORACLE = "bm25", "dense", "hybrid", "oracle"


def measure_systems(collection: Collection, runs: Mapping[str, Mapping[str, Ranked]]) -> Measured:
    """Every system's measures, and the oracle's: for each query the better of BM25 and the general embedder."""
    found = {system: per_query(collection.qrels, run) for system, run in runs.items()}
    first, second = found[BM25], found[DENSE]
    better = first["ndcg_at_10"] >= second["ndcg_at_10"]
    oracle = {key: np.where(better, first[key], second[key]) for key in first}
    return {**found, ORACLE: oracle}


def set_figures(collection: Collection, measured: Measured, how: Resampling) -> SetFigures:
    """One collection's part of the document."""
    auto = measured[AUTO]
    systems = {name: _system(own, None if name == AUTO else auto, how) for name, own in measured.items()}
    return SetFigures(
        n=len(collection.qrels),
        documents=len(collection.documents),
        ndcg_at_10=_mean(auto["ndcg_at_10"]),
        recall_at_100=_mean(auto["recall_at_100"]),
        mrr=_mean(auto["mrr"]),
        bm25_ndcg_at_10=_mean(measured[BM25]["ndcg_at_10"]),
        dense_ndcg_at_10=_mean(measured[DENSE]["ndcg_at_10"]),
        hybrid_ndcg_at_10=_mean(measured[HYBRID]["ndcg_at_10"]),
        oracle_ndcg_at_10=_mean(measured[ORACLE]["ndcg_at_10"]),
        systems=systems,
    )


def mean_figures(each: Mapping[str, Measured], how: Resampling) -> dict[str, Means]:
    """Every system's mean over collections, each counting the same: queries are drawn inside each of them."""
    systems = next(iter(each.values()))
    auto = {name: measured[AUTO]["ndcg_at_10"] for name, measured in each.items()}
    means = {}
    for system in systems:
        own = {name: measured[system]["ndcg_at_10"] for name, measured in each.items()}
        gain = None if system == AUTO else macro_interval([auto[name] - own[name] for name in each], how)
        means[system] = Means(
            ndcg_at_10=macro_interval(list(own.values()), how),
            recall_at_100=float(np.mean([_mean(measured[system]["recall_at_100"]) for measured in each.values()])),
            mrr=float(np.mean([_mean(measured[system]["mrr"]) for measured in each.values()])),
            gain=gain,
        )
    return means


def macro_interval(groups: list[F64], how: Resampling) -> Interval:
    """The mean of the groups' means, with the bootstrap interval that draws inside every group."""
    total = sum(len(values) for values in groups)
    weighted = np.concatenate([values * (total / (len(groups) * len(values))) for values in groups])
    strata = np.repeat(np.arange(len(groups)), [len(values) for values in groups])
    return mean_interval(weighted, strata, how)


def dataset_oracle(sets: Mapping[str, SetFigures]) -> float:
    """The mean of each collection's best system but `auto` and the per-query oracle, chosen in hindsight."""
    singles = [
        max(own.ndcg_at_10.estimate for name, own in figures.systems.items() if name not in {AUTO, ORACLE})
        for figures in sets.values()
    ]
    return float(np.mean(singles))


def table_row(figures: SetFigures) -> list[str]:
    """The row of a table: what the document says first of a collection."""
    own = msgspec.structs.asdict(figures)
    keys = ("bm25_ndcg_at_10", "dense_ndcg_at_10", "hybrid_ndcg_at_10", "oracle_ndcg_at_10", "ndcg_at_10")
    return [str(figures.n), *(f"{own[key]:.4f}" for key in (*keys, "recall_at_100"))]


def _system(own: Mapping[str, F64], auto: Mapping[str, F64] | None, how: Resampling) -> SystemFigures:
    intervals = {key: mean_interval(values, how=how) for key, values in own.items()}
    gain = None if auto is None else paired_interval(auto["ndcg_at_10"], own["ndcg_at_10"], how=how)
    return SystemFigures(intervals["ndcg_at_10"], intervals["recall_at_100"], intervals["mrr"], gain)


def _mean(values: F64) -> float:
    return float(values.mean())
