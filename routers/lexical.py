"""Which word pieces and letters a text is made of, as sparse rows: what the encoder averages away.

N-grams are hashed, so there is no vocabulary to keep, and a text takes a tenth of a millisecond.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from routers.types import F32, Encoded, Tokens

U64 = npt.NDArray[np.uint64]
BUCKET_BITS: Final = 16
BUCKETS: Final = 1 << BUCKET_BITS
WORD_ORDERS: Final = (1, 2, 3)  # word pieces: single ones, pairs, triples
LETTER_ORDERS: Final = (2, 3, 4, 5)
LETTERS: Final = 8192  # bytes of a text that are looked at: 1,500 words
_BUCKET: Final = np.uint16
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_HALF: Final = np.uint64(29)
_FINAL: Final = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True, slots=True, eq=False)
class SparseRow:
    """One text's weights, of unit length. Shapes: buckets, weights (K,); buckets rise, none comes twice."""

    buckets: npt.NDArray[np.intp]
    weights: F32


@dataclass(frozen=True, slots=True, eq=False)
class LexicalRow:
    """One text twice: by its word pieces and by its letters."""

    words: SparseRow
    letters: SparseRow


@dataclass(frozen=True, slots=True, eq=False)
class LexicalSpace:
    """How much each bucket tells: its inverse document frequency. Shapes: words, letters (BUCKETS,)."""

    words: F32
    letters: F32

    def rows(self, encoded: Encoded) -> list[LexicalRow]:
        """The texts in this space; a text without any n-gram has an empty row."""
        return [
            LexicalRow(_weighted(word_buckets(pieces), self.words), _weighted(letter_buckets(text), self.letters))
            for text, pieces in zip(encoded.texts, _pieces(encoded), strict=True)
        ]


def fit_lexical(encoded: Encoded) -> LexicalSpace:
    """The space in which these texts' rare n-grams weigh most."""
    words = [word_buckets(pieces) for pieces in _pieces(encoded)]
    letters = [letter_buckets(text) for text in encoded.texts]
    return LexicalSpace(_inverse_frequency(words), _inverse_frequency(letters))


def word_buckets(pieces: Tokens) -> npt.NDArray[np.intp]:
    """Buckets of one, two and three word pieces in a row, repeats kept."""
    return _buckets(pieces.astype(np.uint64), WORD_ORDERS)


def letter_buckets(text: str) -> npt.NDArray[np.intp]:
    """Buckets of two to five bytes in a row, across word ends, in lower case, spaces evened, repeats kept."""
    plain = f" {' '.join(text[:LETTERS].lower().split())} ".encode("utf-8", "replace")[:LETTERS]
    return _buckets(np.frombuffer(plain, np.uint8).astype(np.uint64), LETTER_ORDERS)


def _pieces(encoded: Encoded) -> Sequence[Tokens]:
    """Each text's word pieces; none for any of them where the encoder shows none."""
    return encoded.word_pieces or (np.empty(0, np.int64),) * len(encoded)


def _buckets(symbols: U64, orders: Sequence[int]) -> npt.NDArray[np.intp]:
    """A rolling hash: the n-gram at i from the (n-1)-gram at i and the symbol after it, as a polynomial modulo 2^64.

    Mixed once more, its high bits become the bucket.
    """
    symbols = symbols + np.uint64(1)
    rolling = symbols
    found = [rolling] if orders[0] == 1 else []
    for order in range(2, orders[-1] + 1):
        if len(symbols) < order:
            break
        rolling = rolling[:-1] * _MULTIPLIER + symbols[order - 1 :]
        if order >= orders[0]:
            found.append(rolling)
    if not found:
        return np.empty(0, np.intp)
    whole = np.concatenate(found)
    whole ^= whole >> _HALF  # else n-grams that differ alike would meet alike
    return ((whole * _FINAL) >> np.uint64(64 - BUCKET_BITS)).astype(np.intp)


def _inverse_frequency(texts: Sequence[npt.NDArray[np.intp]]) -> F32:
    counts = np.zeros(BUCKETS, np.int64)
    for buckets in texts:
        counts[np.unique(buckets)] += 1
    return (np.log((1 + len(texts)) / (1 + counts)) + 1).astype(np.float32)


def _weighted(buckets: npt.NDArray[np.intp], inverse_frequency: F32) -> SparseRow:
    if not len(buckets):
        return SparseRow(buckets, np.empty(0, np.float32))
    there, counts = _counted(buckets)
    weights = (1 + np.log(counts)) * inverse_frequency[there]
    return SparseRow(there, weights / np.float32(math.sqrt(float(weights @ weights)) or 1.0))


def _counted(buckets: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], F32]:
    """Different buckets, rising, and how often each comes: np.unique in a third of its time for a few hundred."""
    ordered = buckets.astype(_BUCKET)
    ordered.sort(kind="stable")  # by radix, since these are of 16 bits
    first = np.empty(len(ordered), np.bool_)
    first[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    counts = np.empty(len(starts), np.float32)
    counts[:-1] = starts[1:] - starts[:-1]
    counts[-1] = len(ordered) - starts[-1]
    return ordered[starts].astype(np.intp), counts
