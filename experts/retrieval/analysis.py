"""English text as the terms that lexical search counts: words in lower case, without stop words, stemmed."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any, Final

from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

ANALYSIS: Final = "english/1"  # of whoever keeps terms: others are not comparable
_WORD: Final = re.compile(r"[^\W_]+")


class EnglishAnalyser:
    """Snowball's English stemmer over words that are no stop words. Thread-safe.

    Raises: ConfigError: the packages of the extra `retrieval` are not installed.
    """

    def __init__(self) -> None:
        try:
            import Stemmer  # noqa: PLC0415 - of an extra
            from bm25s.stopwords import STOPWORDS_EN_PLUS  # noqa: PLC0415 - as above
        except ImportError as error:
            raise ConfigError(str(error.name), None, "is not installed; the extra `retrieval` has it") from error
        self._stop: frozenset[str] = frozenset(STOPWORDS_EN_PLUS)
        self._stemmer: Any = Stemmer.Stemmer("english")
        self._lock = threading.Lock()  # a stemmer has a cache, which it does not guard

    def terms(self, text: str) -> list[str]:
        """Every counted word of a text, in its order, as often as it occurs."""
        return self._stemmed(word for word in _WORD.findall(text.lower()) if word not in self._stop)

    def _stemmed(self, words: Iterable[str]) -> list[str]:
        with self._lock:
            stems: list[str] = self._stemmer.stemWords(list(words))
        return stems
