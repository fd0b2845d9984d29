"""The encoder from its settings: as routing reads it, and whole, as an embedding expert."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from experts.errors import ArtifactMismatch, SourceUnavailable
from routers.artifact import EncoderId

if TYPE_CHECKING:
    from pathlib import Path

    from coe_gateway.settings import EncoderSettings
    from experts.embedders.embedder import Embedder
    from experts.types import ExpertId
    from experts.weights import WeightStore
    from routers.artifact import Manifest
    from routers.types import Encoder

LAYERS: Final = 6  # all that the model has


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

    model, tokenizer = _files(settings, store)
    return MiniLmEncoder(fused_model(model, identity.views), tokenizer, identity.max_tokens, _threads(settings))


def open_embedder(settings: EncoderSettings, store: WeightStore, expert_id: ExpertId) -> Embedder:
    """The same files whole, as the general embedding expert. Raises: SourceUnavailable: a file is not fetched."""
    from experts.embedders.minilm import MAX_TOKENS, MiniLmEmbedder  # noqa: PLC0415 - as above
    from experts.embedders.minilm_engine import MiniLm  # noqa: PLC0415 - as above

    model, tokenizer = _files(settings, store)
    engine = MiniLm(fused_model(model, (LAYERS,)), tokenizer, MAX_TOKENS, _threads(settings))
    return MiniLmEmbedder(expert_id, engine)


def _files(settings: EncoderSettings, store: WeightStore) -> tuple[Path, Path]:
    paths = []
    for name, entry in (("model", settings.model), ("tokenizer", settings.tokenizer)):
        spec = entry.spec()
        if not store.has(spec):
            raise SourceUnavailable(f"router.encoder.{name}: {store.path_of(spec)} is missing; run `coe experts pull`")
        paths.append(store.path_of(spec))
    return paths[0], paths[1]


def _threads(settings: EncoderSettings) -> int:
    return settings.threads or len(os.sched_getaffinity(0))


def fused_model(pulled: Path, views: tuple[int, ...]) -> Path:
    """The graph the encoder runs, made from the pulled file beside it the first time it is wanted."""
    from experts.embedders.minilm_graph import fuse  # noqa: PLC0415 - needs onnx, for this alone

    fused = pulled.with_suffix(f".fused-2-{'-'.join(map(str, views))}.onnx")
    if not fused.exists():
        fuse(pulled, fused, views)
    return fused
