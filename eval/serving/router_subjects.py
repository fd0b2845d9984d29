"""The routers that the router benchmark measures: a configuration's, and one made of nothing but an artifact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from coe_gateway.encoding import encoder_id, open_encoder, refuse_other_encoder
from coe_gateway.routing import build_router
from eval.learning.whole_artifact import own_profile
from experts.errors import ConfigError
from routers.artifact import load_artifact
from routers.batching import BatchingReader
from routers.two_step import TwoStepRouter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coe_gateway.settings import EncoderSettings, Settings
    from experts.weights import WeightStore


@dataclass(frozen=True, slots=True)
class Subject:
    """One router to measure. build: makes it anew, as the gateway does when it starts. texts: those in its memory."""

    name: str
    head: Literal["examples", "artifact"]
    texts: int
    build: Callable[[], TwoStepRouter]


def configured(name: str, settings: Settings, store: WeightStore) -> Subject:
    """The router of a configuration. Raises: ConfigError: it has none."""
    chosen = settings.router
    if chosen is None:
        raise ConfigError("router", None, "this configuration has none; there is nothing to measure")

    def build() -> TwoStepRouter:
        router = build_router(settings, store)
        if router is None:
            raise ValueError("settings with a router gave none")
        return router

    if chosen.artifact_file is not None:
        return Subject(name, "artifact", load_artifact(chosen.artifact_file).manifest.data_rows, build)
    return Subject(name, "examples", sum(len(c.examples) for c in chosen.category_examples()), build)


def of_artifact(name: str, path: Path, encoder: EncoderSettings, store: WeightStore) -> Subject:
    """An artifact with all its experts, whatever the configuration says of them."""
    return Subject(name, "artifact", load_artifact(path).manifest.data_rows, lambda: _artifact(path, encoder, store))


def _artifact(path: Path, settings: EncoderSettings, store: WeightStore) -> TwoStepRouter:
    artifact = load_artifact(path)
    manifest = artifact.manifest
    identity = encoder_id(settings, manifest.encoder.views, manifest.encoder.max_tokens)
    refuse_other_encoder(manifest, identity)
    profile, features = own_profile(artifact)
    encoder = open_encoder(settings, store, identity)
    return TwoStepRouter(BatchingReader(encoder, artifact.head), {"auto": profile}, features)
