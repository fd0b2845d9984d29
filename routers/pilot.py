"""RouterRetriever's pilot library: which embedding expert suits a query, told by examples instead of a trained gate.

Every training query is won by the expert that ranks its documents best. The base vectors of the queries of one domain
that one expert won have a centroid: a pilot of that expert. A new query goes to the expert whose pilots are nearest.
So T experts on T domains have T*T pilots at most, and fewer where one of them wins whole domains.
Source: arXiv 2409.02685, Algorithm 1 (mean); its code takes the nearest pilot (max).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from experts.types import ExpertId
    from routers.types import F32

Aggregate = Literal["mean", "max"]


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """Training queries of one domain, and how well each expert ranked for each.

    Shapes: vectors (Q, D), unit rows of the base; scores: one (Q,) an expert, nDCG@10 or another measure.
    """

    name: str
    vectors: F32
    scores: Mapping[ExpertId, F32]


@dataclass(frozen=True, slots=True, eq=False)
class Pilot:
    """The centroid of a domain's queries that the expert won. Shapes: vector (D,)."""

    expert: ExpertId
    domain: str
    queries: int
    vector: F32


@dataclass(frozen=True, slots=True)
class PilotSettings:
    """How a library decides. abstain_below: the lead over the general expert under which that one takes the query.

    prior_weight: what it counts that an expert won all training queries of the collection that is searched, against a
    cosine of 1 to its pilots.
    """

    aggregate: Aggregate = "mean"
    abstain_below: float = 0.0
    prior_weight: float = 0.5


@dataclass(frozen=True, slots=True)
class PilotChoice:
    """Who takes a query and why. reason: `pilot`, or `low_confidence`: the general expert was not clearly beaten."""

    expert: ExpertId
    scores: Mapping[ExpertId, float]
    margin: float
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class PilotLibrary:
    """Pilots of experts over one base. general: the expert for queries that no other is clearly better for."""

    general: ExpertId
    pilots: tuple[Pilot, ...]

    @property
    def experts(self) -> tuple[ExpertId, ...]:
        """The general expert, then those with a pilot, as they came."""
        return tuple(dict.fromkeys((self.general, *(pilot.expert for pilot in self.pilots))))

    def scores(self, vectors: F32, aggregate: Aggregate = "mean") -> F32:
        """How near each query is to each expert's pilots; -inf for an expert without one.

        Shapes: vectors (B, D) -> (B, E), columns as `experts`.
        """
        columns = [self._similarities(expert, vectors) for expert in self.experts]
        reduced = [_reduced(column, aggregate) if column.shape[1] else _none(len(vectors)) for column in columns]
        return np.stack(reduced, axis=1)

    def choose(
        self, vector: F32, settings: PilotSettings | None = None, priors: Mapping[ExpertId, float] | None = None
    ) -> PilotChoice:
        """Decide on one query. priors: added to experts' scores; a collection may have its own.

        Shapes: vector (D,). Raises: ConfigError: a prior names an expert there is not.
        """
        how = settings or PilotSettings()
        known, given = self.experts, priors or {}
        for expert in given:
            if expert not in known:
                raise ConfigError("prior", expert, f"is not of this library, which knows {', '.join(known)}")
        values = self.scores(vector[None], how.aggregate)[0]
        scores = {e: float(value) + given.get(e, 0.0) for e, value in zip(known, values, strict=True)}
        best = max(known, key=lambda expert: scores[expert])
        margin = scores[best] - scores[self.general] if best != self.general else 0.0
        if best != self.general and margin < how.abstain_below:
            return PilotChoice(self.general, scores, margin, "low_confidence")
        return PilotChoice(best, scores, margin, "pilot")

    def priors_of(self, domain: str, weight: float) -> dict[ExpertId, float]:
        """What a search of this collection adds to experts' scores: their share of its training queries, by weight.

        None for a collection that the library was not made of.
        """
        own = [pilot for pilot in self.pilots if pilot.domain == domain]
        total = sum(pilot.queries for pilot in own)
        return {pilot.expert: weight * pilot.queries / total for pilot in own}

    def with_expert(self, expert: ExpertId, domains: Sequence[Domain]) -> PilotLibrary:
        """The library with pilots of one more expert, where it wins; the others keep theirs, and so their scores.

        Raises: ConfigError: the expert is there already, or has no scores in a domain.
        """
        if any(pilot.expert == expert for pilot in self.pilots):
            raise ConfigError("expert", expert, "has pilots in this library already; remove it first")
        won = [pilot for domain in domains for pilot in pilots_of(domain, self.general) if pilot.expert == expert]
        for domain in domains:
            if expert not in domain.scores:
                raise ConfigError(f"domain {domain.name}", expert, "has no scores there")
        return replace(self, pilots=(*self.pilots, *won))

    def without(self, expert: ExpertId) -> PilotLibrary:
        """The library less one expert. Raises: ConfigError: it is the general one, or has no pilot here."""
        if expert == self.general:
            raise ConfigError("expert", expert, "is the general one, which a library cannot be without")
        kept = tuple(pilot for pilot in self.pilots if pilot.expert != expert)
        if len(kept) == len(self.pilots):
            raise ConfigError("expert", expert, f"has no pilot here; known: {', '.join(self.experts)}")
        return replace(self, pilots=kept)

    def _similarities(self, expert: ExpertId, vectors: F32) -> F32:
        own = [pilot.vector for pilot in self.pilots if pilot.expert == expert]
        rows = np.stack(own) if own else np.empty((0, vectors.shape[1]), np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        similarities: F32 = (vectors @ (rows / np.where(lengths > 0, lengths, 1)).T).astype(np.float32)
        return similarities


def build_library(general: ExpertId, domains: Sequence[Domain]) -> PilotLibrary:
    """Algorithm 1 over every domain. Raises: ConfigError: domains score different experts, or one no query."""
    for domain in domains:
        if domain.scores.keys() != domains[0].scores.keys():
            raise ConfigError(f"domain {domain.name}", None, f"scores other experts than domain {domains[0].name}")
        if general not in domain.scores:
            raise ConfigError(f"domain {domain.name}", general, "is the general expert and has no scores there")
    return PilotLibrary(general, tuple(pilot for domain in domains for pilot in pilots_of(domain, general)))


def pilots_of(domain: Domain, general: ExpertId) -> tuple[Pilot, ...]:
    """The pilots of one domain: one for each expert that wins a query there.

    A tie goes to the expert that is better over the whole domain, and if that is a tie too, to the general one.
    """
    means = {expert: float(np.mean(values)) for expert, values in domain.scores.items()}
    experts = sorted(domain.scores, key=lambda expert: (-means[expert], expert != general))
    winners = np.argmax(np.stack([domain.scores[expert] for expert in experts], axis=1), axis=1)  # of equals the first
    return tuple(
        Pilot(expert, domain.name, int((winners == i).sum()), domain.vectors[winners == i].mean(axis=0))
        for i, expert in enumerate(experts)
        if (winners == i).any()
    )


def _reduced(column: F32, aggregate: Aggregate) -> F32:
    value: F32 = column.mean(axis=1) if aggregate == "mean" else column.max(axis=1)
    return value


def _none(rows: int) -> F32:
    return np.full(rows, -np.inf, np.float32)
