"""Measures retrieval: how fast files are taken in beside encoding alone, how fast a large store answers."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Final

import numpy as np

from coe_gateway.retrieval.decision import Experts
from coe_gateway.retrieval.search import SearchAsk, Searcher
from eval.serving.pairing import Spread
from eval.serving.retrieval_document import Ingest, SearchFigures, SearchTimes
from experts.retrieval.chunking import ChunkSize, Passage, split
from experts.retrieval.filters import Compare
from experts.retrieval.generation import Generation, best_first
from experts.retrieval.indexes import Space
from experts.retrieval.intake import Intake, IntakeRules
from experts.retrieval.library import LibraryRules, open_library
from experts.retrieval.passages import Cut
from experts.retrieval.rerank import SimilarityReranker
from experts.types import ExpertId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from experts.embedders.embedder import Embedder, Kind
    from experts.retrieval.library import Library

    F32 = NDArray[np.float32]

SEED: Final = 7
TENANT: Final = "bench"
TiB: Final = 1024**4
_SENTENCES_A_FILE: Final = 30
_FILE_PASSAGES: Final = 100
_WORDS: Final = 60  # of a passage, beside its stop words
_QUERY_WORDS: Final = 5
_STOP_WORDS: Final = 100
_VOCABULARY: Final = 50_000
_HEAPS: Final = 500
_SPECTRUM: Final = -0.7  # how fast a sentence encoder's dimensions, by importance, fade
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+")
_RULES: Final = LibraryRules(tenant_bytes=TiB)


def shuffled_files(texts: Sequence[str], count: int) -> list[str]:
    """Files of real sentences in an order of their own, so that no passage is another's copy. Pure."""
    sentences = [sentence for text in texts for sentence in _SENTENCE.split(text) if len(sentence.split()) > 3]  # noqa: PLR2004 - words
    chosen = np.random.default_rng(SEED)
    picks = chosen.integers(len(sentences), size=(count, _SENTENCES_A_FILE))
    return [" ".join(sentences[i] for i in row) for row in picks]


def measure_ingest(embedder: Embedder, files: Sequence[str], size: ChunkSize, rounds: int, folder: Path) -> Ingest:
    """Rounds of both, one after the other, each with a library of its own."""
    passages = [passage.text for text in files for passage in split(text, size)]
    embedder.embed(passages[:64], "document")
    encoding, ingest = [], []
    for i in range(rounds):
        began_s = perf_counter()
        embedder.embed(passages, "document")
        encoding.append(len(passages) / (perf_counter() - began_s))
        ingest.append(len(passages) / _taken_in_s(embedder, files, size, folder / str(i)))
    return Ingest(
        embedder=embedder.id,
        files=len(files),
        passages=len(passages),
        encoding_passages_per_s=_spread(encoding),
        ingest_passages_per_s=_spread(ingest),
        ratio=_spread([one / other for one, other in zip(ingest, encoding, strict=True)]),
    )


def _spread(values: list[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def _taken_in_s(embedder: Embedder, files: Sequence[str], size: ChunkSize, folder: Path) -> float:
    """Seconds from the first upload until the last file is searchable."""
    library = open_library(folder, _RULES)
    store = library.stores.create(TENANT, "ingest").id
    began_s = perf_counter()
    for i, text in enumerate(files):
        library.attach(store, library.uploads.add(TENANT, f"{i}.txt", text.encode(), "assistants"), {}, size)
    intake = Intake(library, [embedder], IntakeRules())
    while intake.take_some():
        pass
    took_s = perf_counter() - began_s
    library.close()
    return took_s


@dataclass(frozen=True, slots=True)
class _Given:
    """An embedder whose queries are there already: `17` is the seventeenth. Searches are timed without encoding."""

    vectors: F32
    id: ExpertId = ExpertId("given")  # noqa: RUF009 - a string
    fingerprint: str = "given"

    @property
    def dimensions(self) -> int:
        return int(self.vectors.shape[1])

    def embed(self, texts: Sequence[str], kind: Kind) -> F32:
        del kind
        rows: F32 = self.vectors[[int(text.partition(" ")[0]) for text in texts]]
        return rows


def like_texts(rows: int, dimensions: int, seed: int) -> F32:
    """Unit vectors as a sentence encoder's: heaps around topics, a few directions that matter more than the rest."""
    fading = (np.arange(dimensions) + 1.0) ** _SPECTRUM
    heaps = 0.6 * np.random.default_rng(SEED).normal(size=(_HEAPS, dimensions)) * fading
    chosen = np.random.default_rng(seed)
    vectors = 0.8 * chosen.normal(size=(rows, dimensions)) * fading + heaps[chosen.integers(_HEAPS, size=rows)]
    unit: F32 = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """How large the store is that is searched, and how often."""

    passages: int
    dimensions: int
    queries: int


def measure_search(plan: SearchPlan, folder: Path, on_step: Callable[[str], None]) -> SearchFigures:
    """Fill a store with made passages and vectors, write its index, open it, search it."""
    rows, dimensions, queries = plan.passages, plan.dimensions, plan.queries
    embedder = _Given(like_texts(queries, dimensions, SEED + 1))
    space = Space(embedder.fingerprint, dimensions)
    vectors = like_texts(rows, dimensions, SEED + 2)
    library = open_library(folder, _RULES)
    on_step(f"filling a store with {rows} passages")
    store = _filled(library, vectors, space)
    on_step("writing its index")
    began_s = perf_counter()
    library.indexes.compact(store, space)
    build_s = perf_counter() - began_s
    library.close()
    on_step("searching")
    began_s = perf_counter()
    library = open_library(folder, _RULES)
    base = library.indexes.current(store, space).base
    open_s = perf_counter() - began_s
    library.indexes.search(store, space, embedder.vectors[0], 10, None)
    first_search_s = perf_counter() - began_s - open_s
    if base is None:
        raise RuntimeError("the store has no index")
    recall, flat_p50_ms = _beside_flat(library, store, space, embedder.vectors, vectors)
    times = _search_times(library, store, embedder)
    library.close()
    return SearchFigures(
        passages=rows, dimensions=dimensions, queries=queries,
        lists=base.manifest.lists, probes=base.manifest.probes, recall_at_10=recall, flat_p50_ms=flat_p50_ms,
        times=times, build_s=build_s, open_s=open_s, first_search_s=first_search_s,
        index_mib=_mib(base), catalogue_mib=(folder / "catalogue.sqlite").stat().st_size / 2**20,
    )  # fmt: skip


def like_words(count: int, seed: int) -> list[str]:
    """Words by Zipf's law, the commonest hundred left out: those are stop words. Pure."""
    ranks = np.arange(_STOP_WORDS, _STOP_WORDS + _VOCABULARY)
    shares = (1.0 / ranks) / (1.0 / ranks).sum()
    return [f"word{rank}" for rank in np.random.default_rng(seed).choice(ranks, count, p=shares)]


def _filled(library: Library, vectors: F32, space: Space) -> str:
    store, size = library.stores.create(TENANT, "large").id, ChunkSize(160, 32)
    for start in range(0, len(vectors), _FILE_PASSAGES):
        part = vectors[start : start + _FILE_PASSAGES]
        words = like_words(_WORDS * len(part), start)
        passages = [_passage(words[_WORDS * i : _WORDS * (i + 1)]) for i in range(len(part))]
        upload = library.uploads.add(TENANT, str(start), b"made", "assistants")
        attachment = library.attach(store, upload, {"part": start % 1000}, size)
        cut = Cut(passages, [f"{start + i:032x}" for i in range(len(part))])
        library.passages.commit([(attachment, cut, {space.id: part})])
    return store


def _passage(words: Sequence[str]) -> Passage:
    text = " ".join(words)
    return Passage(text, 0, len(text), len(words))


def _beside_flat(library: Library, store: str, space: Space, queries: F32, vectors: F32) -> tuple[float, float]:
    """Recall of the best ten, and the median time of comparing every vector."""
    found, times = 0, []
    for query in queries:
        began_s = perf_counter()
        truth = best_first(vectors @ query, 10) + 1  # sequence numbers begin at 1
        times.append(perf_counter() - began_s)
        hits = library.indexes.search(store, space, query, 10, None)
        found += len({seq for seq, _ in hits} & set(truth.tolist()))
    return found / (10 * len(queries)), 1000 * float(np.median(times))


def _search_times(library: Library, store: str, embedder: _Given) -> tuple[SearchTimes, ...]:
    searcher = Searcher(library, Experts({embedder.id: embedder}), SimilarityReranker(embedder))
    words = like_words(_QUERY_WORDS * len(embedder.vectors), SEED)
    asks = [f"{i} {' '.join(words[_QUERY_WORDS * i : _QUERY_WORDS * (i + 1)])}" for i in range(len(embedder.vectors))]
    tenth = Compare("part", "lt", 100)
    ways = {
        "vectors": SearchAsk((), 10, embedder.id, hybrid=False),
        "vectors, a filter that lets a tenth pass": SearchAsk((), 10, embedder.id, hybrid=False, filter=tenth),
        "vectors and words, fused": SearchAsk((), 10, embedder.id, hybrid=True),
    }
    return tuple(_timed(searcher, store, name, ask, asks) for name, ask in ways.items())


def _timed(searcher: Searcher, store: str, name: str, ask: SearchAsk, queries: Sequence[str]) -> SearchTimes:
    times = []
    for query in queries:
        began_s = perf_counter()
        searcher.search(store, replace(ask, queries=(query,)))
        times.append(1000 * (perf_counter() - began_s))
    settled = times[len(times) // 10 :]  # the first ones read pages in
    return SearchTimes(name, float(np.median(settled)), float(np.quantile(settled, 0.95)))


def _mib(base: Generation) -> float:
    return sum(path.stat().st_size for path in base.folder.iterdir()) / 2**20
