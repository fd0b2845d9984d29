"""An artifact as a router of its own: all its experts, whatever a configuration says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from experts.types import Category, ExpertId
from routers.budget import Costs, CostWeight
from routers.types import Profile

if TYPE_CHECKING:
    from experts.types import Feature
    from routers.artifact import Artifact

_GENERAL: Final = ExpertId("general")


def own_profile(artifact: Artifact) -> tuple[Profile, dict[ExpertId, frozenset[Feature]]]:
    """By quality at no cost where it knows outcomes, else by the mapping that `coe map` gave it; and its experts."""
    manifest, rated = artifact.manifest, artifact.head.experts
    mapping = {Category(c): tuple(map(ExpertId, experts)) for c, experts in (manifest.mapping or {}).items()}
    named = (ExpertId(manifest.general),) if manifest.general is not None else ()
    experts = dict.fromkeys((*named, *rated, *(e for own in mapping.values() for e in own)))
    general = next(iter(experts), _GENERAL)
    costs = Costs(dict.fromkeys(rated, 0.0), CostWeight()) if rated else None
    return Profile("auto", general, mapping, manifest.abstain_below, costs), dict.fromkeys(
        (*experts, general), frozenset()
    )
