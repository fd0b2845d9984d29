"""Vectors of texts that do not change, kept on disk so that a start does not encode them again."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from routers.types import F32, Encoder


def encode_cached(encoder: Encoder, texts: Sequence[str], folder: Path) -> F32:
    """The texts' vectors, from `folder` if they were encoded before by the same encoder. Shapes: (N, D).

    A file that cannot be read, or a folder that cannot be written, costs time, nothing else.
    """
    digest = hashlib.sha256(encoder.encoder_hash.encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    path = folder / f"{digest.hexdigest()[:24]}.npy"
    known = _load(path, len(texts))
    if known is not None:
        return known
    vectors = encoder.encode(texts).vectors
    _save(path, vectors)
    return vectors


def _load(path: Path, rows: int) -> F32 | None:
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return vectors if vectors.dtype == np.float32 and vectors.ndim == 2 and len(vectors) == rows else None  # noqa: PLR2004


def _save(path: Path, vectors: F32) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
