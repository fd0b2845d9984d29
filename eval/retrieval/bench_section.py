"""An evaluation of retrieval as a section of docs/benchmarks.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from eval.retrieval.document import RetrievalDocument
from eval.retrieval.figures import AUTO
from eval.serving.markdown import table

if TYPE_CHECKING:
    from eval.metrics.intervals import Interval

_WORDS: Final = {
    "bm25": "BM25",
    "dense": "general embedder",
    "hybrid": "their reciprocal rank fusion",
    "oracle": "the better of BM25 and embedder for each query, in hindsight",
    "routed": "the query expert that the pilots choose, without words",
    AUTO: "**`expert: auto`**",
}


def retrieval_quality_section(name: str, raw: bytes) -> str:
    """Render one document. Raises: msgspec.DecodeError: it is not one."""
    document = msgspec.json.decode(raw, type=RetrievalDocument)
    systems = list(document.means)
    rows = [
        [_WORDS.get(system, f"query expert {system}"), *(
            f"{figures.systems[system].ndcg_at_10.estimate:.3f}" for figures in document.sets.values()
        ), _shown(document.means[system].ndcg_at_10), _gain(document.means[system].gain)]
        for system in systems
    ]  # fmt: skip
    counts = [
        [key, str(figures.documents), str(figures.n), f"{figures.recall_at_100:.3f}", f"{figures.mrr:.3f}"]
        for key, figures in document.sets.items()
    ]
    measured = (
        f"`{' '.join(document.command)}` on {document.date[:10]}, nDCG@10, embedder {document.embedder}. In brackets "
        f"{document.resampling.level:.0%} intervals over queries, drawn inside each collection; every collection "
        f"counts the same; from `{name}.json`."
    )
    return "\n\n".join(
        [
            "## Retrieval quality",
            measured,
            table(["who ranks", *document.sets, "mean", "`auto` minus it"], rows),
            f"The best single system of each collection, in hindsight: {document.dataset_oracle_ndcg_at_10:.4f}.",
            table(["collection", "documents", "queries", "recall@100 of `auto`", "MRR of `auto`"], counts),
        ]
    )


def _shown(interval: Interval) -> str:
    return f"{interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def _gain(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.estimate:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
