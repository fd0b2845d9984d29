"""The local step: the experts of a category in order of preference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from experts.errors import UnsupportedField
from routers.types import ExpertScore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from experts.types import Category, ExpertId, Feature
    from routers.types import Profile


@dataclass(frozen=True, slots=True)
class Case:
    """What the local step decides on.

    category: None when the router abstained. qualities: the outcome to expect of each expert, of those that are known.
    draw: a number in [0, 1) that only the text decides. terms: what the qualities were made of, by name, to be told.
    """

    category: Category | None
    probabilities: Mapping[Category, float]
    required: frozenset[Feature] = frozenset()
    qualities: Mapping[ExpertId, float] = field(default_factory=dict)
    draw: float = 0.0
    terms: Mapping[str, Mapping[ExpertId, float]] = field(default_factory=dict)


def rank_experts(
    profile: Profile,
    case: Case,
    features: Mapping[ExpertId, frozenset[Feature]],
    penalty: Callable[[ExpertId], float] | None = None,
) -> tuple[ExpertScore, ...]:
    """Order the experts, best first; experts that lack a required feature are left out.

    By mapping: those of the category, then the general expert, then the rest; each carries `preference` (1 / its place
    in the category's mapping) and `expected_preference` (the same, averaged over the category probabilities). By
    quality: by `score` = `quality` - `cost` - `penalty`, experts of unknown quality behind in the order of the mapping.
    An abstention puts the general expert first in either case.

    penalty: what the moment adds to an expert's cost, such as its weights not being on the device.
    Raises: UnsupportedField: nobody has every required feature.
    """
    places = {name: _places(profile, name) for name in case.probabilities}
    chosen = _places(profile, case.category)
    others = [expert for order in places.values() for expert in order if expert not in chosen]
    rated = [] if profile.costs is None else [e for e in case.qualities if e in features]
    able = [e for e in dict.fromkeys([*chosen, *others, *rated]) if case.required <= features[e]]
    if not able:
        lacking = ", ".join(sorted(case.required))
        first = next(iter(sorted(case.required)), None)
        raise UnsupportedField(f"no expert of {profile.name!r} supports {lacking}", first)
    scored = [ExpertScore(e, _preferences(e, chosen, places, case) | _rating(e, profile, case, penalty)) for e in able]
    if profile.costs is None:
        return tuple(scored)
    general_first = case.category is None
    return tuple(
        sorted(
            scored,
            key=lambda s: (not (general_first and s.expert == profile.general), -s.scores.get("score", float("-inf"))),
        )
    )


def _preferences(
    expert: ExpertId, chosen: list[ExpertId], places: Mapping[Category, list[ExpertId]], case: Case
) -> dict[str, float]:
    expected = sum(p * _preference(places[name], expert) for name, p in case.probabilities.items())
    return {"preference": _preference(chosen, expert), "expected_preference": round(expected, 6)}


def _rating(
    expert: ExpertId, profile: Profile, case: Case, penalty: Callable[[ExpertId], float] | None
) -> dict[str, float]:
    if profile.costs is None or expert not in case.qualities:
        return {}
    quality = case.qualities[expert]
    cost = profile.costs.weight(case.draw) * profile.costs.of.get(expert, 0.0)
    extra = 0.0 if penalty is None else penalty(expert)
    return {
        "quality": round(quality, 6),
        "cost": round(cost, 6),
        "penalty": round(extra, 6),
        "score": round(quality - cost - extra, 6),
        **{name: round(of[expert], 6) for name, of in case.terms.items()},
    }


def _places(profile: Profile, category: Category | None) -> list[ExpertId]:
    mapped = profile.mapping.get(category, ()) if category is not None else ()
    return list(dict.fromkeys((*mapped, profile.general)))


def _preference(order: list[ExpertId], expert: ExpertId) -> float:
    return 1 / (order.index(expert) + 1) if expert in order else 0.0
