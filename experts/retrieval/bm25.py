"""BM25 as an expert: an index of its own for each collection, over bm25s.

bm25s computes the score of every term in every document when it indexes, so that a search adds up columns.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from experts.errors import ConfigError
from experts.retrieval.analysis import ANALYSIS, EnglishAnalyser
from experts.retrieval.ranking import Ranked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PAPERS: Final = "papers.json"


@dataclass(frozen=True, slots=True)
class Bm25Settings:
    """k1: how much a second occurrence counts; b: how much a long document is discounted. See docs/decisions/0012."""

    k1: float = 1.2
    b: float = 0.75


class _Papers(msgspec.Struct, frozen=True):
    """What an index's folder says of it. empty: no document had a term, so there is nothing of bm25s."""

    analysis: str
    ids: tuple[str, ...]
    empty: bool


class Bm25Index:
    """Documents by their terms; read-only once built, so any number of threads may search."""

    def __init__(self, ids: Sequence[str], engine: Any | None, analyser: EnglishAnalyser) -> None:  # noqa: ANN401 - bm25s ships no types
        self._ids, self._engine, self._analyser = tuple(ids), engine, analyser

    @classmethod
    def build(cls, ids: Sequence[str], texts: Sequence[str], settings: Bm25Settings | None = None) -> Bm25Index:
        """Index the texts under their ids. Raises: ConfigError: the extra `retrieval` is not installed."""
        analyser, chosen = EnglishAnalyser(), settings or Bm25Settings()
        terms = [analyser.terms(text) for text in texts]
        engine = None
        if any(terms):
            engine = _bm25s().BM25(k1=chosen.k1, b=chosen.b, method="lucene")
            engine.index(terms, show_progress=False)
        return cls(ids, engine, analyser)

    def __len__(self) -> int:
        return len(self._ids)

    def query_terms(self, text: str) -> dict[str, float]:
        """The terms of a query with their weights: how often each occurs."""
        return {term: float(count) for term, count in Counter(self._analyser.terms(text)).items()}

    def search(self, text: str, count: int) -> Ranked:
        """The `count` best documents that share a term with the text."""
        return self.best(self.query_terms(text), count)

    def best(self, terms: Mapping[str, float], count: int) -> Ranked:
        """The `count` best documents by weighted terms; equal scores keep the order of the documents."""
        scores = self.scores(terms)
        found = np.flatnonzero(scores > 0)
        if len(found) > count:
            found = found[np.argpartition(-scores[found], count - 1)[:count]]
        found = found[np.lexsort((found, -scores[found]))]
        return Ranked(tuple(self._ids[row] for row in found), tuple(float(scores[row]) for row in found))

    def scores(self, terms: Mapping[str, float]) -> NDArray[np.float32]:
        """Every document's score. Shapes: -> (N,)."""
        total = np.zeros(len(self._ids), np.float32)
        if self._engine is None:
            return total
        columns, vocabulary = self._engine.scores, self._engine.vocab_dict
        for term, weight in terms.items():
            column = vocabulary.get(term)
            if column is not None:
                rows = slice(columns["indptr"][column], columns["indptr"][column + 1])
                total[columns["indices"][rows]] += np.float32(weight) * columns["data"][rows]
        return total

    def save(self, folder: Path) -> None:
        """Write the index into an empty folder."""
        folder.mkdir(parents=True, exist_ok=True)
        if self._engine is not None:
            self._engine.save(str(folder), show_progress=False)
        papers = _Papers(ANALYSIS, self._ids, self._engine is None)
        (folder / PAPERS).write_bytes(msgspec.json.encode(papers))

    @classmethod
    def load(cls, folder: Path) -> Bm25Index:
        """Open a saved index, memory-mapped. Raises: ConfigError: it is damaged, or of another analysis."""
        try:
            papers = msgspec.json.decode((folder / PAPERS).read_bytes(), type=_Papers)
            engine = None if papers.empty else _bm25s().BM25.load(str(folder), mmap=True)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError("bm25 index", str(folder), f"cannot be read: {error}") from error
        if papers.analysis != ANALYSIS:
            raise ConfigError("bm25 index", str(folder), f"has terms of {papers.analysis!r}, not of {ANALYSIS!r}")
        return cls(papers.ids, engine, EnglishAnalyser())


def _bm25s() -> Any:  # noqa: ANN401 - bm25s ships no types
    try:
        import bm25s  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise ConfigError("bm25s", None, "is not installed; the extra `retrieval` has it") from error
    return bm25s
