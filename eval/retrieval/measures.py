"""Measures of rankings as trec_eval defines them, a value for each query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eval.metrics.shapes import F64
    from experts.retrieval.ranking import Ranked

    Qrels = Mapping[str, Mapping[str, int]]

MEASURES: Final = {"ndcg_at_10": "nDCG@10", "recall_at_100": "R@100", "mrr": "RR"}


def per_query(qrels: Qrels, run: Mapping[str, Ranked]) -> dict[str, F64]:
    """Measure a run: for each of MEASURES a value a query, in the order of `qrels`; a query without a ranking has 0.

    The order of a ranking counts, not its scores: trec_eval would reorder ties by document id.
    Raises: ConfigError: ir-measures is not installed.
    """
    try:
        import ir_measures  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise ConfigError("ir-measures", None, "is not installed; the extra `retrieval` has it") from error
    wanted = [ir_measures.parse_measure(name) for name in MEASURES.values()]
    places = {query: row for row, query in enumerate(qrels)}
    found = {key: np.zeros(len(qrels)) for key in MEASURES}
    keys = {str(measure): key for measure, key in zip(wanted, MEASURES, strict=True)}
    ordered = {query: _by_rank(ranked.ids) for query, ranked in run.items()}
    for metric in ir_measures.iter_calc(wanted, qrels, ordered):
        found[keys[str(metric.measure)]][places[metric.query_id]] = metric.value
    return found


def _by_rank(ids: Sequence[str]) -> dict[str, float]:
    return {name: float(len(ids) - rank) for rank, name in enumerate(ids)}
