"""The systems that `coe eval retrieval` compares, over one collection: every query ranked by each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from eval.retrieval.figures import AUTO, BM25, DENSE, HYBRID
from eval.retrieval.vectors import embed_cached
from eval.retrieval.windows import WindowedVectors, windows
from experts.retrieval.bm25 import Bm25Index
from experts.retrieval.fusion import reciprocal_rank
from experts.retrieval.hybrid import DEFAULTS, HybridSettings, hybrid_search

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from eval.retrieval.collection import Collection, Document
    from experts.embedders.adapter import QueryAdapter
    from experts.embedders.embedder import Embedder
    from experts.retrieval.bm25 import Bm25Settings
    from experts.retrieval.ranking import Ranked
    from experts.types import ExpertId
    from routers.pilot import PilotLibrary, PilotSettings
    from routers.types import F32

DEPTH: Final = 100  # what recall is measured at
TITLE_TIMES: Final = 3  # a word of the title counts as so many of the text


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A collection with both indexes and its queries as the base embedder has them. Shapes: queries (Q, D)."""

    collection: Collection
    vectors: WindowedVectors
    words: Bm25Index
    queries: F32


@dataclass(frozen=True, slots=True)
class RoutedExperts:
    """Query experts on the base, and what chooses between them for a query."""

    adapters: Mapping[ExpertId, QueryAdapter]
    pilots: PilotLibrary | None
    settings: PilotSettings

    def moved(self, queries: F32) -> dict[ExpertId, F32]:
        """The queries as each expert has them. Shapes: queries (Q, D) -> (Q, D) each."""
        return {expert: adapter(queries) for expert, adapter in self.adapters.items()}

    def routed(self, queries: F32, collection: str) -> tuple[F32, list[bool]]:
        """Each query as the expert has it that the pilots choose, and whether that is another than the base."""
        moved, routed, others = self.moved(queries), queries.copy(), [False] * len(queries)
        if self.pilots is None:
            return routed, others
        priors = self.pilots.priors_of(collection, self.settings.prior_weight)
        for row, query in enumerate(queries):
            chosen = self.pilots.choose(query, self.settings, priors).expert
            if chosen in moved:
                routed[row], others[row] = moved[chosen][row], True
        return routed, others


def prepare(
    collection: Collection, embedder: Embedder, cache: Path, *, words: Bm25Settings, say: Callable[[str], None]
) -> Prepared:
    """Embed and index. say: told how far it is."""
    documents = collection.documents
    return Prepared(
        collection,
        document_vectors(documents, embedder, cache, lambda text: say(f"{collection.name}: {text}")),
        Bm25Index.build([doc.id for doc in documents], [lexical_text(doc) for doc in documents], words),
        embed_cached(embedder, list(collection.queries.values()), "query", cache),
    )


def document_vectors(
    documents: Sequence[Document], embedder: Embedder, cache: Path, say: Callable[[str], None]
) -> WindowedVectors:
    """Every window of every document embedded."""
    parts = [windows(document) for document in documents]
    texts = [text for own in parts for text in own]
    owners = [row for row, own in enumerate(parts) for _ in own]
    vectors = embed_cached(embedder, texts, "document", cache, lambda done: say(f"{done} of {len(texts)} windows"))
    return WindowedVectors([document.id for document in documents], vectors, owners)


def lexical_text(document: Document) -> str:
    """What BM25 counts of a document: its text, and the title so that it counts more."""
    return " ".join([document.title] * (TITLE_TIMES - 1) + [document.whole])


def run_systems(
    prepared: Prepared, experts: RoutedExperts | None = None, settings: HybridSettings = DEFAULTS
) -> dict[str, dict[str, Ranked]]:
    """Every query's ranking by BM25, the base, their reciprocal rank fusion, each query expert, and `auto`.

    auto: what is served by default: the expert that the pilots choose, with words, by `hybrid_search`.
    """
    asked = prepared.collection.queries
    words = {query: prepared.words.search(text, settings.candidates) for query, text in asked.items()}
    dense = _dense(prepared, prepared.queries, settings.candidates)
    runs = {
        BM25: {query: ranked.top(DEPTH) for query, ranked in words.items()},
        DENSE: {query: ranked.top(DEPTH) for query, ranked in dense.items()},
        HYBRID: {query: reciprocal_rank([words[query], dense[query]]).top(DEPTH) for query in words},
    }
    queries, others = prepared.queries, [False] * len(asked)
    if experts is not None:
        for expert, moved in experts.moved(queries).items():
            runs[expert] = _dense(prepared, moved, DEPTH)
        queries, others = experts.routed(queries, prepared.collection.name)
        if experts.pilots is not None:
            runs["routed"] = _dense(prepared, queries, DEPTH)
    own = replace(settings, centring=0.0)
    runs[AUTO] = {
        query: hybrid_search(prepared.vectors, vector, words[query], DEPTH, own if other else settings)
        for query, vector, other in zip(asked, queries, others, strict=True)
    }
    return runs


def _dense(prepared: Prepared, queries: F32, count: int) -> dict[str, Ranked]:
    each = zip(prepared.collection.queries, queries, strict=True)
    return {query: prepared.vectors.nearest(vector, count) for query, vector in each}
