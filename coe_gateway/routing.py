"""A router from its settings: encoder, categories, profiles."""

from __future__ import annotations

import os
from importlib.resources import files
from typing import TYPE_CHECKING

import yaml

from experts.errors import ConfigError, SourceUnavailable
from experts.types import Category, ExpertId
from routers.batching import BatchingEncoder
from routers.categories import CategoryExamples, ExampleHead
from routers.two_step import TwoStepRouter
from routers.types import Profile
from routers.vector_cache import encode_cached

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from coe_gateway.settings import ProfileSettings, RouterSettings, Settings
    from experts.weights import WeightStore
    from routers.types import Encoder


def build_router(settings: Settings, store: WeightStore) -> TwoStepRouter | None:
    """The router of `settings`, if it has one; takes a second, so call it off the event loop.

    Raises: SourceUnavailable: its encoder is not fetched. ConfigError: a mapping names a category there is not.
    """
    router_settings = settings.router
    if router_settings is None:
        return None
    encoder = _open_encoder(router_settings, store)
    head = _fit_head(router_settings, encoder, store.root / "vectors")
    profiles = {"auto": _profile("auto", router_settings, head)}
    profiles |= {name: _profile(name, profile, head) for name, profile in router_settings.profiles.items()}
    features = {ExpertId(entry.id): entry.spec().features for entry in settings.experts}
    cache_entries = router_settings.cache_entries
    return TwoStepRouter(BatchingEncoder(encoder), head, profiles, features, cache_entries=cache_entries)


def default_categories() -> tuple[CategoryExamples, ...]:
    """The categories that ship with the product."""
    text = files("routers").joinpath("defaults/categories.yaml").read_text(encoding="utf-8")
    return tuple(
        CategoryExamples(Category(item["name"]), tuple(item["examples"]), item.get("description", ""))
        for item in yaml.safe_load(text)["categories"]
    )


def _open_encoder(settings: RouterSettings, store: WeightStore) -> Encoder:
    from routers.encoder import MiniLmEncoder  # noqa: PLC0415 - its libraries load in half a second, for this alone

    paths = []
    for name, entry in (("model", settings.encoder.model), ("tokenizer", settings.encoder.tokenizer)):
        spec = entry.spec()
        if not store.has(spec):
            raise SourceUnavailable(f"router.encoder.{name}: {store.path_of(spec)} is missing; run `coe experts pull`")
        paths.append(store.path_of(spec))
    encoder = settings.encoder
    threads = encoder.threads or len(os.sched_getaffinity(0))
    return MiniLmEncoder(fused_model(paths[0]), paths[1], encoder.max_tokens, threads)


def fused_model(pulled: Path) -> Path:
    """The graph the encoder runs, made from the pulled file beside it the first time it is wanted."""
    from routers.encoder_graph import fuse  # noqa: PLC0415 - needs onnx, for this alone

    fused = pulled.with_suffix(".fused-1.onnx")
    if not fused.exists():
        fuse(pulled, fused)
    return fused


def _fit_head(settings: RouterSettings, encoder: Encoder, cache: Path) -> ExampleHead:
    categories = _categories(settings)
    texts = [text for category in categories for text in category.examples]
    labels = [i for i, category in enumerate(categories) for _ in category.examples]
    vectors = encode_cached(encoder, texts, cache)
    return ExampleHead([c.name for c in categories], vectors, labels, k=settings.neighbours)


def _categories(settings: RouterSettings) -> Sequence[CategoryExamples]:
    if settings.categories == "default":
        return default_categories()
    return [CategoryExamples(Category(c.name), c.examples, c.description) for c in settings.categories]


def _profile(name: str, settings: ProfileSettings, head: ExampleHead) -> Profile:
    for category in settings.mapping:
        if category not in head.categories:
            at = "router" if name == "auto" else f"router.profiles.{name}"
            known = ", ".join(head.categories)
            raise ConfigError(f"{at}.mapping.{category}", category, f"is not a category; known: {known}")
    mapping = {Category(c): tuple(map(ExpertId, experts)) for c, experts in settings.mapping.items()}
    return Profile(name, ExpertId(settings.general), mapping, settings.abstain_below)
