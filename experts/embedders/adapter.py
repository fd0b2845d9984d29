"""Query adapters: an expert that moves the queries of a domain and leaves every document where it is.

A low-rank residual and a bias on the base's query vector, then unit length again. Documents are encoded once, by the
base, so one index serves the base and every adapter on it.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - a struct's field
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from experts.errors import ArtifactCorrupt, ArtifactMismatch
from experts.sealed_file import read_sealed, seal, write_sealed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from experts.embedders.embedder import Embedder, Kind
    from experts.types import ExpertId

    F32 = NDArray[np.float32]

FORMAT: Final = "coe-query-adapter/1"
_TINY: Final = 1e-12


def unit_rows(rows: F32) -> F32:
    """Every row at unit length; an all-zero row stays. Shapes: (N, D) -> (N, D)."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: F32 = (rows / np.maximum(lengths, _TINY)).astype(np.float32)
    return scaled


@dataclass(frozen=True, slots=True, eq=False)
class QueryAdapter:
    """q -> unit(q + (q down) up + bias). Shapes: down (D, R), up (R, D), bias (D,)."""

    down: F32
    up: F32
    bias: F32

    def __call__(self, queries: F32) -> F32:
        """Shapes: (N, D) -> (N, D)."""
        moved = (queries + (queries @ self.down) @ self.up + self.bias).astype(np.float32)
        return unit_rows(moved)


class AdapterManifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """An adapter's papers. base: the fingerprint its queries and documents were embedded with. created: ISO date."""

    format: str
    name: str
    created: str
    base: str
    corpus_sha256: str
    pairs: int
    metrics: Mapping[str, float]
    description: str = ""


def save_adapter(path: Path, manifest: AdapterManifest, adapter: QueryAdapter) -> str:
    """Write the file: a whole one or none; its sha256."""
    return write_sealed(path, _json(manifest), _arrays(adapter))


def load_adapter(path: Path) -> tuple[AdapterManifest, QueryAdapter]:
    """Read and check a file. Raises: ArtifactCorrupt: it is damaged, or no query adapter."""
    text, arrays = read_sealed(path)
    try:
        manifest = msgspec.json.decode(text, type=AdapterManifest)
    except msgspec.MsgspecError as error:
        raise ArtifactCorrupt(str(path), f"its manifest is not that of a query adapter: {error}") from error
    if manifest.format != FORMAT:
        raise ArtifactCorrupt(str(path), f"its format is {manifest.format!r}, this version reads {FORMAT!r}")
    try:
        adapter = QueryAdapter(arrays["down"], arrays["up"], arrays["bias"])
    except KeyError as error:
        raise ArtifactCorrupt(str(path), f"has no array {error}") from error
    dimensions = adapter.bias.shape[-1]
    if adapter.down.shape != (dimensions, len(adapter.up)) or adapter.up.shape != (len(adapter.up), dimensions):
        shapes = f"{adapter.down.shape}, {adapter.up.shape} and {adapter.bias.shape}"
        raise ArtifactCorrupt(str(path), f"its arrays of {shapes} do not fit together")
    return manifest, adapter


class AdaptedEmbedder:
    """A base with an adapter on its queries."""

    def __init__(self, expert_id: ExpertId, base: Embedder, adapter: QueryAdapter) -> None:
        self._id, self._base, self._adapter = expert_id, base, adapter

    @property
    def id(self) -> ExpertId:
        """The expert's id."""
        return self._id

    @property
    def dimensions(self) -> int:
        """D, the length of a vector: the base's."""
        return self._base.dimensions

    @property
    def fingerprint(self) -> str:
        """The base's: its indexes serve."""
        return self._base.fingerprint

    def embed(self, texts: Sequence[str], kind: Kind) -> F32:
        """Documents as the base embeds them, queries moved. Shapes: N texts -> (N, D)."""
        vectors = self._base.embed(texts, kind)
        return self._adapter(vectors) if kind == "query" else vectors


def open_adapted(path: Path, expert_id: ExpertId, base: Embedder) -> AdaptedEmbedder:
    """The expert of a file. Raises: ArtifactMismatch: it was trained on another base. ArtifactCorrupt: as above."""
    manifest, adapter = load_adapter(path)
    if manifest.base != base.fingerprint:
        raise ArtifactMismatch(str(path), "base fingerprint", manifest.base, base.fingerprint)
    return AdaptedEmbedder(expert_id, base, adapter)


def adapter_sha256(manifest: AdapterManifest, adapter: QueryAdapter) -> str:
    """The hash that the file carries."""
    return seal(_json(manifest), _arrays(adapter))


def _json(manifest: AdapterManifest) -> str:
    return msgspec.json.encode(manifest, order="sorted").decode()


def _arrays(adapter: QueryAdapter) -> dict[str, F32]:
    return {"bias": adapter.bias, "down": adapter.down, "up": adapter.up}
