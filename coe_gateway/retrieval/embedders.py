"""The embedding experts of a configuration, opened, and what chooses among them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from coe_gateway.encoding import fused_model
from coe_gateway.retrieval.decision import Experts
from coe_gateway.retrieval_settings import (
    HashingEmbedderEntry,
    MiniLmEmbedderEntry,
    OnnxEmbedderEntry,
    SentenceTransformerEntry,
)
from experts.embedders.hashing import HashingEmbedder
from experts.errors import ConfigError, SourceUnavailable
from experts.retrieval.rerank import SimilarityReranker
from experts.types import ExpertId
from routers.pilot import PilotLibrary, PilotSettings
from routers.pilot_file import load_pilots

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from coe_gateway.retrieval_settings import EmbedderEntry, PilotsSettings, RerankerEntry, RetrievalSettings
    from experts.embedders.embedder import Embedder
    from experts.retrieval.rerank import Reranker
    from experts.weights import WeightStore

ALL_LAYERS = (6,)


def open_experts(settings: RetrievalSettings, store: WeightStore) -> Experts:
    """The experts in the order of the configuration, and their pilots. Blocks.

    Raises: ConfigError; SourceUnavailable: a file is not fetched; ArtifactCorrupt, ArtifactMismatch: an adapter or the
        pilots cannot be used.
    """
    opened: dict[ExpertId, Embedder] = {}
    for entry in settings.embedders:
        opened[ExpertId(entry.id)] = _open(entry, store, opened)
    general = next(iter(opened.values()))
    if settings.pilots is None:
        return Experts(opened)
    return Experts(opened, *_pilots(settings.pilots, general, opened))


def _pilots(
    settings: PilotsSettings, general: Embedder, opened: Mapping[ExpertId, Embedder]
) -> tuple[PilotLibrary, PilotSettings]:
    path = settings.file.expanduser()
    if not path.is_file():
        raise ConfigError("retrieval.pilots.file", str(path), "is no file; `coe train pilots` writes one")
    manifest, library = load_pilots(path, general.fingerprint)
    for expert in library.experts:
        if expert not in opened:
            problem = f"has pilots of {expert!r}, which is not among the embedders {', '.join(opened)}"
            raise ConfigError("retrieval.pilots.file", str(path), problem)
    if library.general != general.id:
        problem = f"has {library.general!r} as its general expert; the first embedder is {general.id!r}"
        raise ConfigError("retrieval.pilots.file", str(path), problem)
    abstain_below = manifest.abstain_below if settings.abstain_below is None else settings.abstain_below
    return library, PilotSettings(settings.aggregate or manifest.aggregate, abstain_below)


def _open(entry: EmbedderEntry, store: WeightStore, opened: Mapping[ExpertId, Embedder]) -> Embedder:
    threads = getattr(entry, "threads", None) or len(os.sched_getaffinity(0))
    expert_id = ExpertId(entry.id)
    if isinstance(entry, HashingEmbedderEntry):
        return HashingEmbedder(entry.id, entry.dimensions)
    if isinstance(entry, MiniLmEmbedderEntry):
        from experts.embedders.minilm import MiniLmEmbedder  # noqa: PLC0415 - each brings libraries of its own
        from experts.embedders.minilm_engine import MiniLm  # noqa: PLC0415

        model, tokenizer = _files(entry, store)
        return MiniLmEmbedder(expert_id, MiniLm(fused_model(model, ALL_LAYERS), tokenizer, entry.max_tokens, threads))
    if isinstance(entry, OnnxEmbedderEntry):
        from experts.embedders.onnx_model import OnnxEmbedder, OnnxSettings  # noqa: PLC0415

        how = OnnxSettings(entry.pooling, entry.max_tokens, entry.query_prefix, entry.document_prefix, threads)
        return OnnxEmbedder(expert_id, *_files(entry, store), how)
    if isinstance(entry, SentenceTransformerEntry):
        from experts.embedders.sentence_transformer import SentenceTransformerEmbedder  # noqa: PLC0415

        return SentenceTransformerEmbedder(expert_id, entry.model, max_tokens=entry.max_tokens)
    from experts.embedders.adapter import open_adapted  # noqa: PLC0415

    path = entry.file.expanduser()
    if not path.is_file():
        raise ConfigError(f"retrieval.embedders {entry.id} file", str(path), "is no file")
    return open_adapted(path, expert_id, opened[ExpertId(entry.base)])


def open_reranker(settings: RetrievalSettings, store: WeightStore, experts: Experts) -> Reranker:
    """The cross-encoder of the configuration, or what there is without one. Blocks. Raises: as open_experts."""
    entry = settings.reranker
    if entry is None:
        return SimilarityReranker(experts.general)
    from experts.retrieval.cross_encoder import CrossEncoder  # noqa: PLC0415 - as above

    model, tokenizer = _files(entry, store)
    threads = entry.threads or len(os.sched_getaffinity(0))
    return CrossEncoder(entry.id, model, tokenizer, max_tokens=entry.max_tokens, threads=threads)


def _files(entry: MiniLmEmbedderEntry | OnnxEmbedderEntry | RerankerEntry, store: WeightStore) -> tuple[Path, Path]:
    for file in (entry.model, entry.tokenizer):
        if not store.has(file.spec()):
            path = store.path_of(file.spec())
            raise SourceUnavailable(f"retrieval {entry.id}: {path} is missing; run `coe experts pull`")
    return store.path_of(entry.model.spec()), store.path_of(entry.tokenizer.spec())
