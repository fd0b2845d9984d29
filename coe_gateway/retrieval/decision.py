"""Which embedding expert a query goes to, and how that is told."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - a struct's field, read at run time
from dataclasses import dataclass, field
from math import isfinite
from time import perf_counter
from typing import TYPE_CHECKING, Final

import msgspec

from experts.errors import UnknownExpert
from experts.types import ExpertId
from routers.pilot import PilotSettings

if TYPE_CHECKING:
    from experts.embedders.embedder import Embedder
    from routers.pilot import PilotChoice, PilotLibrary
    from routers.types import F32

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
    """A decision about one query. rankers: the embedders to rank with, the chosen one first, and the query by each."""

    expert: ExpertId
    rankers: tuple[tuple[Embedder, F32], ...]
    experts: tuple[EmbedderScore, ...]
    reason: str
    margin: float = 0.0
    timings_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Experts:
    """The embedding experts of a gateway, the general one first. pilots: choose among those that share its vectors.

    An expert with vectors of its own ranks for every query of `auto` beside the one that is chosen.
    """

    embedders: Mapping[ExpertId, Embedder]
    pilots: PilotLibrary | None = None
    how: PilotSettings = field(default_factory=PilotSettings)

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
        """Decide who ranks for a query, and encode it for them. Raises: UnknownExpert."""
        if name == WORDS:
            return Chosen(WORDS, (), (), "named")
        if name != AUTO:
            if ExpertId(name) not in self.embedders:
                raise UnknownExpert(name, self.names())
            embedder = self.named(name)
            return Chosen(embedder.id, ((embedder, _vector(embedder, query)),), (), "named")
        return self._by_pilots(query)

    def _by_pilots(self, query: str) -> Chosen:
        began_s = perf_counter()
        general = self.general
        vector = _vector(general, query)
        encoded_s = perf_counter()
        scores: tuple[EmbedderScore, ...] = (EmbedderScore(general.id, {}),)
        chosen, reason, margin = general, "only", 0.0
        if self.pilots is not None:
            choice = self.pilots.choose(vector, self.how)
            chosen, reason, margin = self.embedders[choice.expert], choice.reason, choice.margin
            scores = _told(choice)
        routed_s = perf_counter()
        rankers = [(chosen, vector if chosen is general else _vector(chosen, query))]
        rankers += [(other, _vector(other, query)) for other in self._of_their_own()]
        timings = {"route": (routed_s - encoded_s) * 1000, "encode": (perf_counter() - began_s) * 1000}
        return Chosen(chosen.id, tuple(rankers), scores, reason, margin, timings)

    def _of_their_own(self) -> list[Embedder]:
        """One expert for each space but the general one's."""
        spaces = {embedder.fingerprint: embedder for embedder in reversed(list(self.embedders.values()))}
        del spaces[self.general.fingerprint]
        return list(spaces.values())


def _vector(embedder: Embedder, query: str) -> F32:
    row: F32 = embedder.embed([query], "query")[0]
    return row


def _told(choice: PilotChoice) -> tuple[EmbedderScore, ...]:
    """Every candidate, the chosen one first, with its nearness to the query; one without pilots has none."""
    order = sorted(choice.scores, key=lambda expert: (expert != choice.expert, -choice.scores[expert]))
    finite = {expert: score for expert, score in choice.scores.items() if isfinite(score)}
    return tuple(EmbedderScore(expert, {"pilot": finite[expert]} if expert in finite else {}) for expert in order)
