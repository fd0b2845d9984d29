"""Vectors of texts that were embedded before, kept on disk: measuring again does not encode again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import numpy as np

from routers.row_files import whole_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from experts.embedders.embedder import Embedder, Kind
    from routers.types import F32

BATCH: Final = 256  # texts between two words of progress


def embed_cached(
    embedder: Embedder,
    texts: Sequence[str],
    kind: Kind,
    folder: Path,
    progress: Callable[[int], None] | None = None,
) -> F32:
    """The texts embedded, from `folder` if they were before by an embedder of this fingerprint.

    progress: told how many texts are done. Do not pass queries of an adapter, which keeps its base's fingerprint.
    Shapes: N texts -> (N, D).
    """
    digest = hashlib.sha256(f"{embedder.fingerprint} {kind}".encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    path = folder / f"{digest.hexdigest()[:24]}.npy"
    known = _known(path, (len(texts), embedder.dimensions))
    if known is not None:
        return known
    vectors = np.empty((len(texts), embedder.dimensions), np.float32)
    for start in range(0, len(texts), BATCH):
        rows = slice(start, start + BATCH)
        vectors[rows] = embedder.embed(texts[rows], kind)
        if progress is not None:
            progress(min(start + BATCH, len(texts)))
    with whole_file(path) as file:
        np.save(file, vectors)
    return vectors


def _known(path: Path, shape: tuple[int, int]) -> F32 | None:
    try:
        vectors: F32 = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return vectors if vectors.shape == shape and vectors.dtype == np.float32 else None
