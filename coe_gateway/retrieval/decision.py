"""Which embedding expert a query goes to, and how that is told."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - a struct's field, read at run time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from experts.errors import UnknownExpert
from experts.types import ExpertId

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from experts.embedders.embedder import Embedder

WORDS: Final = ExpertId("bm25")
AUTO: Final = "auto"


class EmbedderScore(msgspec.Struct, frozen=True):
    """A candidate and the numbers that placed it."""

    expert: str
    scores: Mapping[str, float]


class RetrievalDecision(msgspec.Struct, frozen=True):
    """Who ranks for a query and why; part of the product's interface.

    expert: the one whose vector is searched with, or `bm25` for words alone. experts: the best first. reason: `named`,
    `only` (there is one), `pilot`, or `low_confidence`: no expert is clearly better than the general one. hybrid:
    whether a ranking by words was fused in. rerank: what ranked the result anew, if anything did.
    """

    expert: str
    experts: tuple[EmbedderScore, ...]
    reason: str
    hybrid: bool
    query: str
    rerank: str | None = None
    margin: float = 0.0
    timings_ms: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Chosen:
    """A decision about one query. query: its vector by the expert, None for words alone."""

    expert: ExpertId
    query: NDArray[np.float32] | None
    embedder: Embedder | None
    experts: tuple[EmbedderScore, ...] = ()
    reason: str = "named"
    margin: float = 0.0
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Experts:
    """The embedding experts of a gateway, the general one first."""

    embedders: Mapping[ExpertId, Embedder]

    @property
    def general(self) -> Embedder:
        """The one for queries that no other is clearly better for."""
        return next(iter(self.embedders.values()))

    def names(self) -> list[str]:
        """Every name that `expert` may take."""
        return [AUTO, *self.embedders, WORDS]

    def named(self, name: str) -> Embedder:
        """The expert of a name; `auto` is the general one. Raises: UnknownExpert."""
        if name == AUTO:
            return self.general
        if (found := self.embedders.get(ExpertId(name))) is None:
            raise UnknownExpert(name, [AUTO, *self.embedders])
        return found

    def choose(self, name: str, query: str) -> Chosen:
        """Decide who ranks for a query, and encode it. Raises: UnknownExpert."""
        if name == WORDS:
            return Chosen(WORDS, None, None)
        if name != AUTO and ExpertId(name) not in self.embedders:
            raise UnknownExpert(name, self.names())
        embedder = self.named(name)
        vector = embedder.embed([query], "query")[0]
        return Chosen(embedder.id, vector, embedder, reason="only" if name == AUTO else "named")
