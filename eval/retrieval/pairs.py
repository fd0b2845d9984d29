"""Queries to train on: judged ones, or made from the corpus itself when nobody has judged any.

title: a document's title asks for it. cloze: one of its sentences does, without the rest (the inverse cloze task).
span: some words in a row do, as long as a query. None of them is a question; they teach which words of a domain belong
together, not what people ask.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eval.retrieval.collection import Collection, Document

_SENTENCE_END: Final = re.compile(r"(?<=[.?!])\s+")
_FEWEST_WORDS: Final = 5  # a shorter sentence is a heading or a reference
_SPAN_WORDS: Final = (8, 20)


@dataclass(frozen=True, slots=True)
class TextPairs:
    """Queries as text, each with the rows of its relevant documents."""

    queries: tuple[str, ...]
    relevant: tuple[tuple[int, ...], ...]


def judged_pairs(collection: Collection) -> TextPairs:
    """The collection's queries with their relevant documents; those of other corpora are left out."""
    rows = {document.id: row for row, document in enumerate(collection.documents)}
    own = {query: tuple(rows[name] for name in grades if name in rows) for query, grades in collection.qrels.items()}
    kept = [query for query, relevant in own.items() if relevant]
    return TextPairs(tuple(collection.queries[query] for query in kept), tuple(own[query] for query in kept))


def made_pairs(documents: Sequence[Document], ways: Sequence[str], seed: int) -> TextPairs:
    """One query a document and way, where the document has one to give. Same seed, same queries.

    Raises: ConfigError: a way is none of `WAYS`, or no document gives any.
    """
    for way in ways:
        if way not in WAYS:
            raise ConfigError("--make", way, f"is none of {', '.join(WAYS)}")
    rng = np.random.default_rng(seed)
    found = [(text, row) for row, doc in enumerate(documents) for way in ways for text in WAYS[way](doc, rng)]
    if not found:
        raise ConfigError("--make", ", ".join(ways), "no document gives such a query")
    return TextPairs(tuple(text for text, _ in found), tuple((row,) for _, row in found))


def _title(document: Document, _: np.random.Generator) -> Iterator[str]:
    if document.title.strip() and document.text.strip():
        yield document.title.strip()


def _cloze(document: Document, rng: np.random.Generator) -> Iterator[str]:
    sentences = [s for s in _SENTENCE_END.split(document.text) if len(s.split()) >= _FEWEST_WORDS]
    if len(sentences) > 1:
        yield sentences[rng.integers(len(sentences))].strip()


def _span(document: Document, rng: np.random.Generator) -> Iterator[str]:
    words, length = document.text.split(), int(rng.integers(*_SPAN_WORDS))
    if len(words) > 2 * length:
        start = int(rng.integers(len(words) - length))
        yield " ".join(words[start : start + length])


WAYS: Final[dict[str, Callable[[Document, np.random.Generator], Iterator[str]]]] = {
    "title": _title,
    "cloze": _cloze,
    "span": _span,
}
