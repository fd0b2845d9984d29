"""What each expert takes of each budget: its size, and its cost and latency where those are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from experts.errors import ConfigError
from routers.expert_facts import match
from routers.mapping_problem import FIGURE_OF, Candidate

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from experts.types import ExpertId
    from routers.expert_facts import ExpertFacts
    from routers.outcomes import Outcomes

CHARS_PER_TOKEN: Final = 4  # of a prompt; outcome files count the tokens of answers only
_NEEDED: Final = {"average_cost": "what a request costs", "average_latency_s": "--latency-s EXPERT=SECONDS"}

CostSource = Literal["costs", "prices"]


@dataclass(frozen=True, slots=True)
class ExpertFigures:
    """The candidates, and what is known of them. cost_sources: None where a cost is not known and stands as 0."""

    candidates: tuple[Candidate, ...]
    cost_sources: tuple[CostSource | None, ...]
    missing: Mapping[str, Mapping[ExpertId, str]]

    def known(self) -> tuple[str, ...]:
        """The budgets that every candidate has a figure for."""
        return tuple(key for key in FIGURE_OF if not self.missing.get(key))

    def require(self, budgets: Collection[str]) -> None:
        """Let budgets pass that every expert has a figure for. Raises: ConfigError: naming what is missing."""
        for key in budgets:
            if missing := self.missing.get(key):
                named = "; ".join(f"{expert}: {problem}" for expert, problem in missing.items())
                raise ConfigError(key, None, f"needs {_NEEDED[key]} of every expert. Missing: {named}")


def expert_figures(outcomes: Outcomes, facts: Sequence[ExpertFacts], latencies_s: Mapping[str, float]) -> ExpertFigures:
    """The figures of the experts of `outcomes`, in their order.

    A cost is the mean of the file's costs, or else of its tokens at the experts file's prices, a prompt's tokens being
    a fourth of its characters.
    Raises: ConfigError: an expert without facts; a latency of an expert without outcomes, or one below 0.
    """
    for name, latency_s in latencies_s.items():
        if name not in outcomes.experts:
            raise ConfigError("latency-s", name, f"has no outcomes; known: {', '.join(outcomes.experts)}")
        if not 0 <= latency_s < float("inf"):
            raise ConfigError("latency-s", f"{name}={latency_s}", "must be a number of at least 0")
    candidates, sources = [], []
    missing: dict[str, dict[ExpertId, str]] = {"average_cost": {}, "average_latency_s": {}}
    for column, fact in enumerate(match(outcomes, facts)):
        expert = outcomes.experts[column]
        cost, source = _cost(outcomes, column, fact)
        if source is None:
            missing["average_cost"][expert] = _lacking(outcomes, column, fact)
        if expert not in latencies_s:
            missing["average_latency_s"][expert] = "not given"
        latency_s = latencies_s.get(expert, 0.0)
        candidates.append(Candidate(expert, fact.total_params_b, fact.active_params_b, cost, latency_s))
        sources.append(source)
    return ExpertFigures(tuple(candidates), tuple(sources), missing)


def _cost(outcomes: Outcomes, column: int, fact: ExpertFacts) -> tuple[float, CostSource | None]:
    """USD per request, and where it is from."""
    if outcomes.costs is not None and (known := ~np.isnan(outcomes.costs[:, column])).any():
        return float(outcomes.costs[known, column].mean()), "costs"
    if outcomes.tokens is None or fact.input_price is None or fact.output_price is None:
        return 0.0, None
    known = ~np.isnan(outcomes.tokens[:, column])
    if not known.any():
        return 0.0, None
    prompt_tokens = np.array([len(text) for text in outcomes.texts])[known].mean() / CHARS_PER_TOKEN
    answer_tokens = outcomes.tokens[known, column].mean()
    return float(fact.input_price * prompt_tokens + fact.output_price * answer_tokens) / 1e6, "prices"


def _lacking(outcomes: Outcomes, column: int, fact: ExpertFacts) -> str:
    """What would do for a cost: costs, or all of the rest."""
    lacking = [name for name in ("input_price", "output_price") if getattr(fact, name) is None]
    if outcomes.tokens is None or np.isnan(outcomes.tokens[:, column]).all():
        lacking.insert(0, "tokens")
    return f"no costs in the outcome file, and no {' and no '.join(lacking)} to reckon them from"
