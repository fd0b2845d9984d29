"""A router from its settings: encoder, categories, profiles."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from experts.errors import ArtifactMismatch, SourceUnavailable
from experts.types import Category, ExpertId
from routers.artifact import EncoderId
from routers.batching import BatchingEncoder
from routers.categories import ExampleHead
from routers.two_step import TwoStepRouter
from routers.types import Profile
from routers.vector_cache import encode_cached

if TYPE_CHECKING:
    from pathlib import Path

    from coe_gateway.settings import EncoderSettings, ProfileSettings, RouterSettings, Settings
    from experts.weights import WeightStore
    from routers.artifact import Manifest
    from routers.types import Encoder


def build_router(settings: Settings, store: WeightStore) -> TwoStepRouter | None:
    """The router of `settings`, if it has one; takes a second, so call it off the event loop.

    Raises: SourceUnavailable: its encoder is not fetched.
    """
    router_settings = settings.router
    if router_settings is None:
        return None
    identity = encoder_id(
        router_settings.encoder, (router_settings.encoder.layers,), router_settings.encoder.max_tokens
    )
    encoder = open_encoder(router_settings.encoder, store, identity)
    head = _fit_head(router_settings, encoder, store.root / "vectors")
    profiles = {"auto": _profile("auto", router_settings)}
    profiles |= {name: _profile(name, profile) for name, profile in router_settings.profiles.items()}
    features = {ExpertId(entry.id): entry.spec().features for entry in settings.experts}
    cache_entries = router_settings.cache_entries
    return TwoStepRouter(BatchingEncoder(encoder), head, profiles, features, cache_entries=cache_entries)


def encoder_id(settings: EncoderSettings, views: tuple[int, ...], max_tokens: int) -> EncoderId:
    """Which vectors these settings give when these layers are read."""
    return EncoderId(settings.model.sha256, settings.tokenizer.sha256, views, max_tokens)


def refuse_other_encoder(manifest: Manifest, identity: EncoderId) -> None:
    """Raises: ArtifactMismatch: the artifact was fitted on other vectors."""
    for field in EncoderId.__struct_fields__:
        theirs, ours = getattr(manifest.encoder, field), getattr(identity, field)
        if theirs != ours:
            raise ArtifactMismatch(manifest.name, f"encoder {field}", str(theirs), str(ours))


def open_encoder(settings: EncoderSettings, store: WeightStore, identity: EncoderId) -> Encoder:
    """The encoder of the settings' files, read as `identity` says. Raises: SourceUnavailable: a file is not fetched."""
    from routers.encoder import MiniLmEncoder  # noqa: PLC0415 - its libraries load in half a second, for this alone

    paths = []
    for name, entry in (("model", settings.model), ("tokenizer", settings.tokenizer)):
        spec = entry.spec()
        if not store.has(spec):
            raise SourceUnavailable(f"router.encoder.{name}: {store.path_of(spec)} is missing; run `coe experts pull`")
        paths.append(store.path_of(spec))
    threads = settings.threads or len(os.sched_getaffinity(0))
    return MiniLmEncoder(fused_model(paths[0], identity.views), paths[1], identity.max_tokens, threads)


def fused_model(pulled: Path, views: tuple[int, ...]) -> Path:
    """The graph the encoder runs, made from the pulled file beside it the first time it is wanted."""
    from routers.encoder_graph import fuse  # noqa: PLC0415 - needs onnx, for this alone

    fused = pulled.with_suffix(f".fused-2-{'-'.join(map(str, views))}.onnx")
    if not fused.exists():
        fuse(pulled, fused, views)
    return fused


def _fit_head(settings: RouterSettings, encoder: Encoder, cache: Path) -> ExampleHead:
    categories = settings.category_examples()
    texts = [text for category in categories for text in category.examples]
    labels = [i for i, category in enumerate(categories) for _ in category.examples]
    vectors = encode_cached(encoder, texts, cache).vectors
    return ExampleHead([c.name for c in categories], vectors, labels, k=settings.neighbours)


def _profile(name: str, settings: ProfileSettings) -> Profile:
    mapping = {Category(c): tuple(map(ExpertId, experts)) for c, experts in settings.mapping.items()}
    return Profile(name, ExpertId(settings.general), mapping, settings.abstain_below)
