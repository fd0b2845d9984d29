"""A router from its settings: encoder, head, profiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coe_gateway.encoding import encoder_id, open_encoder, refuse_other_encoder
from experts.errors import ArtifactMismatch, ConfigError
from experts.registry import CannedEntry
from experts.types import Category, ExpertId
from routers.artifact import load_artifact
from routers.ask import DEFAULT_MAX_CHARS
from routers.batching import BatchingReader
from routers.budget import Costs, CostWeight, weight_for_budget
from routers.categories import ExampleHead
from routers.described import DescribedHead, Descriptions, encode_descriptions, with_strangers
from routers.fan_out import FanOut
from routers.null_expert import NullExpert
from routers.two_step import TwoStepRouter
from routers.types import Profile
from routers.vector_cache import encode_cached

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coe_gateway.settings import ProfileSettings, RouterSettings, Settings
    from experts.weights import WeightStore
    from routers.artifact import Artifact, Manifest
    from routers.types import F32, Encoder, RoutingHead


_CHARS_PER_TOKEN = 16  # artifacts are fitted on whole texts; their letters count beyond the encoder's window


def build_router(
    settings: Settings, store: WeightStore, resident: Callable[[ExpertId], bool] = lambda _: True
) -> TwoStepRouter | None:
    """The router of `settings`, if it has one; takes a second, so call it off the event loop.

    resident: whether an expert's weights are on the device just now.
    Raises: SourceUnavailable: its encoder is not fetched. ArtifactCorrupt, ArtifactMismatch: its artifact cannot be
    used. ConfigError: a profile does not fit the artifact. InfeasibleBudget: a profile's budget is below every expert.
    """
    chosen = settings.router
    if chosen is None:
        return None
    artifact = None if chosen.artifact_file is None else load_artifact(chosen.artifact_file)
    encoder, head, expected = _examples(chosen, store) if artifact is None else _trained(artifact, settings, store)
    given = _Given(settings, artifact, head.experts, expected)
    profiles = {"auto": _profile("auto", "router", chosen, given)}
    for name, profile in chosen.profiles.items():
        profiles[name] = _profile(name, f"router.profiles.{name}", profile, given)
    features = {ExpertId(entry.id): entry.spec().features for entry in settings.experts}
    absent = chosen.not_resident_penalty
    return TwoStepRouter(
        BatchingReader(encoder, head),
        profiles,
        features,
        cache_entries=chosen.cache_entries,
        ask_chars=DEFAULT_MAX_CHARS if artifact is None else _CHARS_PER_TOKEN * artifact.manifest.encoder.max_tokens,
        penalty=(lambda expert: 0.0 if resident(expert) else absent) if absent else None,
    )


def _examples(settings: RouterSettings, store: WeightStore) -> tuple[Encoder, RoutingHead, F32]:
    """Categories by example: no artifact, and nothing expected of any expert."""
    identity = encoder_id(settings.encoder, (settings.encoder.layers,), settings.encoder.max_tokens)
    encoder = open_encoder(settings.encoder, store, identity)
    return encoder, _fit_head(settings, encoder, store.root / "vectors"), np.zeros((0, 0), np.float32)


def _trained(artifact: Artifact, settings: Settings, store: WeightStore) -> tuple[Encoder, RoutingHead, F32]:
    """The encoder of an artifact, its head, and what that expected of its texts, for the experts configured."""
    manifest, chosen = artifact.manifest, settings.router
    if chosen is None:
        raise ValueError("an artifact without router settings")
    identity = encoder_id(chosen.encoder, manifest.encoder.views, manifest.encoder.max_tokens)
    refuse_other_encoder(manifest, identity)
    known = {ExpertId(entry.id) for entry in settings.experts}
    unknown = [expert for expert in artifact.head.experts if expert not in known]
    if unknown and not chosen.ignore_unknown_experts:
        raise ArtifactMismatch(manifest.name, "expert", ", ".join(unknown), ", ".join(sorted(known)))
    kept = [i for i, expert in enumerate(artifact.head.experts) if expert in known]
    head, expected = artifact.head.only([artifact.head.experts[i] for i in kept]), artifact.expected[:, kept]
    encoder = open_encoder(chosen.encoder, store, identity)
    if not manifest.alpha:
        return encoder, head, expected
    experts, texts = _said(manifest, head.experts, settings)
    descriptions = Descriptions(encode_descriptions(encoder, texts, store.root / "vectors"), manifest.alpha)
    blended = descriptions.blended(with_strangers(expected, len(experts)), head.space.memory)
    return encoder, DescribedHead(head, experts, descriptions), blended.qualities


def _fit_head(settings: RouterSettings, encoder: Encoder, cache: Path) -> ExampleHead:
    categories = settings.category_examples()
    texts = [text for category in categories for text in category.examples]
    labels = [i for i, category in enumerate(categories) for _ in category.examples]
    vectors = encode_cached(encoder, texts, cache).vectors
    return ExampleHead([c.name for c in categories], vectors, labels, k=settings.neighbours)


def _said(
    manifest: Manifest, rated: tuple[ExpertId, ...], settings: Settings
) -> tuple[tuple[ExpertId, ...], tuple[str, ...]]:
    """Who is rated, those that have only a description last, and what each says of itself, here before there."""
    said = {card.id: card.description for card in manifest.experts}
    said |= {entry.id: entry.description for entry in settings.experts if entry.description}
    models = [ExpertId(entry.id) for entry in settings.experts if not isinstance(entry, CannedEntry)]
    experts = (*rated, *(expert for expert in models if expert not in rated and said.get(expert)))
    return experts, tuple(said.get(expert, "") for expert in experts)


@dataclass(frozen=True, eq=False)
class _Given:
    """What a profile is made from. experts: those rated; expected: their qualities on the texts of the training."""

    whole: Settings
    artifact: Artifact | None
    experts: tuple[ExpertId, ...]
    expected: F32


def _profile(name: str, key: str, settings: ProfileSettings, given: _Given) -> Profile:
    whole, artifact = given.whole, given.artifact
    mapping = {Category(c): tuple(map(ExpertId, experts)) for c, experts in settings.mapping.items()}
    abstain_below = settings.abstain_below
    if artifact is not None:
        known = {entry.id for entry in whole.experts}
        mapping = mapping or _own_mapping(artifact, known)
        for category in mapping:
            if category not in artifact.head.categories:
                problem = f"is not a category of {artifact.manifest.name}; it has {', '.join(artifact.head.categories)}"
                raise ConfigError(f"{key}.mapping.{category}", None, problem)
        if "abstain_below" not in settings.model_fields_set:
            abstain_below = artifact.manifest.abstain_below
    costs = _costs(key, settings, given)
    general, null = ExpertId(settings.general), _null_expert(settings, whole)
    return Profile(name, general, mapping, abstain_below, costs, _fan_out(settings), null)


def _null_expert(settings: ProfileSettings, whole: Settings) -> NullExpert | None:
    for entry in whole.experts:
        if entry.id == settings.null_expert and isinstance(entry, CannedEntry):
            return NullExpert(ExpertId(entry.id), entry.rules(), entry.spec().features)
    return None


def _fan_out(settings: ProfileSettings) -> FanOut | None:
    if settings.top_p is None or settings.max_experts == 1:
        return None
    return FanOut(settings.top_p, settings.max_experts, settings.fan_out_temperature)


def _own_mapping(artifact: Artifact, known: set[str]) -> dict[Category, tuple[ExpertId, ...]]:
    """The mapping that `coe map` wrote into the artifact, if it did. Raises: ArtifactMismatch: it names others."""
    mapping = artifact.manifest.mapping or {}
    if unknown := sorted({e for experts in mapping.values() for e in experts} - known):
        raise ArtifactMismatch(artifact.manifest.name, "expert", ", ".join(unknown), ", ".join(sorted(known)))
    return {Category(category): tuple(map(ExpertId, experts)) for category, experts in mapping.items()}


def _costs(key: str, settings: ProfileSettings, given: _Given) -> Costs | None:
    """What routing by quality subtracts; None where the mapping decides."""
    rated = given.experts
    if settings.route_by == "mapping" or (settings.route_by == "auto" and (not rated or settings.mapping)):
        return None
    if not rated:
        raise ConfigError(f"{key}.route_by", settings.route_by, "needs an artifact trained on outcomes")
    active = {ExpertId(entry.id): entry.active_params_b or entry.total_params_b for entry in given.whole.experts}
    costs = {expert: float(cost) for expert, cost in active.items() if cost is not None}
    if settings.average_active_params_b is None:
        return Costs(costs, CostWeight(settings.cost_per_active_b, settings.cost_per_active_b))
    for expert in rated:
        if expert not in costs:
            raise ConfigError("experts", expert, f"has no total_params_b, which {key}.average_active_params_b needs")
    order = np.array([costs[expert] for expert in rated])
    budget = settings.average_active_params_b
    weight = weight_for_budget(given.expected, order, budget, f"{key}.average_active_params_b")
    return Costs(costs, weight)
