"""One search: choose the expert, rank by its vectors and by words, drop duplicates, rank anew if asked to.

Synchronous: it runs in a thread of the service's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Final

import msgspec

from coe_gateway.retrieval.decision import WORDS, RetrievalDecision
from coe_gateway.retrieval.store_vectors import StoreVectors, once_each
from experts.embedders.adapter import AdaptedEmbedder
from experts.retrieval.hybrid import DEFAULTS, HybridSettings, hybrid_search
from experts.retrieval.indexes import Space

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coe_gateway.retrieval.decision import Chosen, Experts
    from experts.embedders.embedder import Embedder
    from experts.retrieval.filters import Filter
    from experts.retrieval.library import Library
    from experts.retrieval.records import StoredPassage
    from experts.retrieval.rerank import Reranker
    from experts.retrieval.snapshot import Ranges

RRF_K: Final = 60
Ranking = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class SearchAsk:
    """What is looked for. threshold: hits with a lower score are left out."""

    queries: tuple[str, ...]
    count: int
    expert: str
    hybrid: bool
    rerank: bool = False
    filter: Filter | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found. score: what it is ordered by; scores: each ranking's own. expert: whose ranking found it."""

    passage: StoredPassage
    score: float
    expert: str
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Searcher:
    """Searches stores. hybrid: how vectors and words are joined, and how many of each ranking are looked at."""

    library: Library
    experts: Experts
    reranker: Reranker
    hybrid: HybridSettings = DEFAULTS

    def search(self, store: str, ask: SearchAsk) -> tuple[list[Hit], list[RetrievalDecision]]:
        """The best passages for any of the queries, and a decision for each query. Raises: UnknownExpert."""
        allowed = self.library.allowed(store, ask.filter)
        best: dict[str, Hit] = {}
        decisions = []
        for query in ask.queries:
            hits, decision = self._one(store, ask, query, allowed)
            decisions.append(decision)
            for hit in hits:
                known = best.get(hit.passage.content_key)
                if known is None or hit.score > known.score:
                    best[hit.passage.content_key] = hit
        found = sorted(best.values(), key=lambda hit: -hit.score)
        if ask.threshold is not None:
            found = [hit for hit in found if hit.score >= ask.threshold]
        return found[: ask.count], decisions

    def decide(self, expert: str, query: str, *, hybrid: bool) -> RetrievalDecision:
        """The decision alone. Raises: UnknownExpert."""
        began_s = perf_counter()
        chosen = self.experts.choose(expert, query)
        return _decision(chosen, query, hybrid, {**chosen.timings_ms, "total": _ms_since(began_s)})

    def _one(
        self, store: str, ask: SearchAsk, query: str, allowed: Ranges | None
    ) -> tuple[list[Hit], RetrievalDecision]:
        began_s = perf_counter()
        chosen = self.experts.choose(ask.expert, query)
        timings = {"encode": _ms_since(began_s), **chosen.timings_ms}
        searched_s = perf_counter()
        count = max(self.hybrid.candidates, ask.count)
        rankings: dict[str, Ranking] = {}
        if ask.hybrid or chosen.expert == WORDS:
            rankings[WORDS] = self.library.search_words(store, query, count, allowed)
        plain = chosen.rankers[1:] if ask.hybrid else chosen.rankers
        for embedder, vector in plain:
            rankings[embedder.id] = self.library.indexes.search(store, _space(embedder), vector, count, allowed)
        hybrid = ask.hybrid and bool(chosen.rankers)
        ranking = self._hybrid(store, chosen, rankings, allowed) if hybrid else fused(rankings)
        hits = self._hits(ranking, rankings, ask.count if not ask.rerank else count)
        timings["search"] = _ms_since(searched_s)
        decision = _decision(chosen, query, hybrid, timings)
        if ask.rerank:
            again_s = perf_counter()
            hits = self._ranked_anew(query, hits)
            timings["rerank"] = _ms_since(again_s)
            decision = _reranked(decision, self.reranker.method)
        timings["total"] = _ms_since(began_s)
        return hits[: ask.count], decision

    def _hybrid(self, store: str, chosen: Chosen, rankings: dict[str, Ranking], allowed: Ranges | None) -> Ranking:
        """The chosen expert's vectors with the words; rankings in spaces of their own are fused in by rank.

        rankings: those of words and of other spaces; gets the chosen expert's cosines.
        """
        embedder, vector = chosen.rankers[0]
        words, *others = rankings.values()
        index = StoreVectors(self.library.indexes.current(store, _space(embedder)), self.library.passages, allowed)
        by_words = once_each(words, self.library.passages)
        how = replace(self.hybrid, centring=0.0) if isinstance(embedder, AdaptedEmbedder) else self.hybrid
        found = hybrid_search(index, vector, by_words, self.hybrid.candidates, how)
        seqs = [int(name) for name in found.ids]
        rankings[embedder.id] = list(zip(seqs, index.compare(vector, found.ids).tolist(), strict=True))
        ranking = list(zip(seqs, found.scores, strict=True))
        return fused({str(i): each for i, each in enumerate([ranking, *others])}) if others else ranking

    def _hits(self, ranking: Ranking, rankings: Mapping[str, Ranking], count: int) -> list[Hit]:
        """The first passages of a ranking, each text once."""
        each = {name: dict(pairs) for name, pairs in rankings.items()}
        hits: dict[str, Hit] = {}
        step = 2 * count
        for start in range(0, len(ranking), step):
            part = ranking[start : start + step]
            passages = self.library.passages.texts([seq for seq, _ in part])
            for seq, score in part:
                passage = passages.get(seq)
                if passage is not None and passage.content_key not in hits:
                    scores = {name: values[seq] for name, values in each.items() if seq in values}
                    hits[passage.content_key] = Hit(passage, score, _finder(scores), scores)
            if len(hits) >= count:
                break
        return list(hits.values())[:count]

    def _ranked_anew(self, query: str, hits: Sequence[Hit]) -> list[Hit]:
        scores = self.reranker.scores(query, [hit.passage.text for hit in hits])
        anew = [
            replace(hit, score=score, scores={**hit.scores, "rerank": score})
            for hit, score in zip(hits, scores, strict=True)
        ]
        return sorted(anew, key=lambda hit: -hit.score)


def fused(rankings: Mapping[str, Ranking]) -> Ranking:
    """One ranking of several by reciprocal rank, its scores in (0, 1]; a single one as it is. Pure."""
    if len(rankings) == 1:
        return next(iter(rankings.values()))
    scores: dict[int, float] = {}
    for ranking in rankings.values():
        for place, (seq, _) in enumerate(ranking, 1):
            scores[seq] = scores.get(seq, 0.0) + (RRF_K + 1) / (RRF_K + place) / len(rankings)
    return sorted(scores.items(), key=lambda item: -item[1])


def _decision(chosen: Chosen, query: str, hybrid: bool, timings: Mapping[str, float]) -> RetrievalDecision:  # noqa: FBT001 - private
    return RetrievalDecision(
        chosen.expert, chosen.experts, chosen.reason, hybrid, query, margin=chosen.margin, timings_ms=timings
    )


def _reranked(decision: RetrievalDecision, method: str) -> RetrievalDecision:
    return msgspec.structs.replace(decision, rerank=method)


def _finder(scores: Mapping[str, float]) -> str:
    """Whose ranking a passage is in: an expert's before that of words."""
    return next((name for name in scores if name != WORDS), WORDS)


def _space(embedder: Embedder) -> Space:
    return Space(embedder.fingerprint, embedder.dimensions)


def _ms_since(began_s: float) -> float:
    return (perf_counter() - began_s) * 1000
