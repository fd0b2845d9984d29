"""Query experts and their pilots judged together, on queries that neither has seen.

The queries of every domain are cut in folds. For each fold an expert is trained for each domain that has queries
enough, on the other folds' queries, the pilots are made of the same, and the fold's queries are routed and ranked. So
every query counts once. The pilots take an expert's word on its own domain from the members that had held a query out:
on queries it learnt from, every expert looks better than it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from eval.retrieval.training import train_expert
from experts.embedders.adapter_fit import ndcg_each
from experts.types import ExpertId
from routers.pilot import Domain, PilotSettings, build_library

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from eval.metrics.shapes import F64, I64
    from eval.retrieval.training import Say, TrainSettings
    from experts.embedders.adapter import QueryAdapter
    from experts.embedders.adapter_fit import Pairs
    from routers.pilot import PilotLibrary
    from routers.types import F32

    Adapters = Mapping[ExpertId, QueryAdapter]
    Scores = dict[ExpertId, F64]


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """nDCG@10 of each query of each domain. Shapes: (Q,) each.

    experts: by every single expert, the general one first. routed: by the expert that the pilots chose, with the priors
    of the collection that was searched; unprimed: without them, as in a collection that no training query was of.
    """

    experts: Mapping[str, Mapping[ExpertId, F64]]
    routed: Mapping[str, F64]
    unprimed: Mapping[str, F64]

    def mean_of(self, expert: ExpertId) -> float:
        """The mean of one expert, every domain counting the same."""
        return float(np.mean([own[expert].mean() for own in self.experts.values()]))

    @property
    def routed_mean(self) -> float:
        """The mean of the routed queries, every domain counting the same."""
        return float(np.mean([values.mean() for values in self.routed.values()]))

    @property
    def unprimed_mean(self) -> float:
        """The same without priors."""
        return float(np.mean([values.mean() for values in self.unprimed.values()]))

    @property
    def dataset_oracle(self) -> float:
        """The mean of the best single expert of each domain, chosen in hindsight."""
        return float(np.mean([max(values.mean() for values in own.values()) for own in self.experts.values()]))

    @property
    def instance_oracle(self) -> float:
        """The mean of the best expert of each query, chosen in hindsight."""
        return float(np.mean([np.max(list(own.values()), axis=0).mean() for own in self.experts.values()]))


def scored(pairs: Pairs, general: ExpertId, adapters: Adapters) -> Scores:
    """Every expert's nDCG@10 of each query. Shapes: (Q,) each."""
    moved = {expert: ndcg_each(adapter(pairs.queries), pairs) for expert, adapter in adapters.items()}
    return {general: ndcg_each(pairs.queries, pairs), **moved}


def library_of(
    domains: Mapping[str, Pairs], general: ExpertId, adapters: Adapters, held_out: Mapping[ExpertId, F64] | None = None
) -> PilotLibrary:
    """The pilots of these training queries. held_out: an expert's own scores on the domain of its name, if known."""
    own = held_out or {}
    found = []
    for name, pairs in domains.items():
        scores = scored(pairs, general, adapters)
        if ExpertId(name) in own:
            known = own[ExpertId(name)]
            scores[ExpertId(name)] = np.where(np.isnan(known), scores[ExpertId(name)], known)
        found.append(Domain(name, pairs.queries, {e: values.astype(np.float32) for e, values in scores.items()}))
    return build_library(general, found)


def routing_trial(
    domains: Mapping[str, Pairs],
    general: ExpertId,
    settings: TrainSettings,
    *,
    folds: int,
    pilots: PilotSettings,
    say: Say,
    fewest: int = 0,
) -> Trial:
    """Train and judge, fold by fold. fewest: queries under which a domain has no expert of its own."""
    names = tuple(ExpertId(name) for name, pairs in domains.items() if len(pairs.queries) >= fewest)
    singles = {d: {e: np.empty(len(p.queries)) for e in (general, *names)} for d, p in domains.items()}
    routed, unprimed = ({name: np.empty(len(p.queries)) for name, p in domains.items()} for _ in range(2))
    cuts = {name: _cut(len(pairs.queries), folds, settings.fit.seed) for name, pairs in domains.items()}
    for fold in range(folds):
        learning = {name: pairs.only(_but(cuts[name], fold)) for name, pairs in domains.items()}
        trained = {
            ExpertId(name): train_expert(pairs, settings, partial(_said, say, f"fold {fold + 1} of {folds}, {name}: "))
            for name, pairs in learning.items()
            if name in names
        }
        adapters = {expert: found.adapter for expert, found in trained.items()}
        library = library_of(learning, general, adapters, {e: found.held_out for e, found in trained.items()})
        for name, pairs in domains.items():
            rows = cuts[name][fold]
            own = scored(pairs.only(rows), general, adapters)
            for expert, values in own.items():
                singles[name][expert][rows] = values
            route = partial(_routed, pairs.queries[rows], own, library, pilots)
            routed[name][rows] = route(library.priors_of(name, pilots.prior_weight))
            unprimed[name][rows] = route({})
    return Trial(singles, routed, unprimed)


def _routed(
    queries: F32, scores: Scores, library: PilotLibrary, settings: PilotSettings, priors: Mapping[ExpertId, float]
) -> F64:
    chosen = [library.choose(query, settings, priors).expert for query in queries]
    return np.array([scores[expert][row] for row, expert in enumerate(chosen)])


def _cut(count: int, folds: int, seed: int) -> list[I64]:
    return np.array_split(np.random.default_rng(seed).permutation(count), folds)


def _but(cut: Sequence[I64], fold: int) -> I64:
    return np.concatenate([rows for number, rows in enumerate(cut) if number != fold])


def _said(say: Callable[[str], None], prefix: str, text: str) -> None:
    say(prefix + text)
