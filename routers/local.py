"""The local step: the experts of a category in order of preference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experts.errors import UnsupportedField
from routers.types import ExpertScore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from experts.types import Category, ExpertId, Feature
    from routers.types import Profile


def rank_experts(
    profile: Profile,
    category: Category | None,
    probabilities: Mapping[Category, float],
    features: Mapping[ExpertId, frozenset[Feature]],
    required: frozenset[Feature],
) -> tuple[ExpertScore, ...]:
    """Order the experts for `category`, the general expert last; None (abstained) puts the general expert first.

    Experts that lack a required feature are left out. Each carries `preference` (1 / its place in the category's
    mapping) and `expected_preference` (the same, averaged over the category probabilities).

    Raises: UnsupportedField: nobody has every required feature.
    """
    places = {name: _places(profile, name) for name in probabilities}
    chosen = _places(profile, category)
    others = [expert for order in places.values() for expert in order if expert not in chosen]
    able = [e for e in [*chosen, *dict.fromkeys(others)] if required <= features[e]]
    if not able:
        lacking = ", ".join(sorted(required))
        raise UnsupportedField(f"no expert of {profile.name!r} supports {lacking}", next(iter(sorted(required)), None))
    return tuple(
        ExpertScore(
            expert,
            {
                "preference": _preference(chosen, expert),
                "expected_preference": round(
                    sum(p * _preference(places[name], expert) for name, p in probabilities.items()), 6
                ),
            },
        )
        for expert in able
    )


def _places(profile: Profile, category: Category | None) -> list[ExpertId]:
    mapped = profile.mapping.get(category, ()) if category is not None else ()
    return list(dict.fromkeys((*mapped, profile.general)))


def _preference(order: list[ExpertId], expert: ExpertId) -> float:
    return 1 / (order.index(expert) + 1) if expert in order else 0.0
