"""Texts that were encoded before, kept on disk: a start, or the next training run, does not encode them again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from typing import TYPE_CHECKING, Final

import numpy as np

from routers.types import Encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from routers.types import Encoder

BATCH: Final = 512  # texts between two words of progress


def encode_cached(
    encoder: Encoder, texts: Sequence[str], folder: Path, progress: Callable[[int], None] | None = None
) -> Encoded:
    """The texts encoded, from `folder` if they were before by the same encoder.

    progress: told how many texts are done, now and then.
    A file that cannot be read, or a folder that cannot be written, costs time, nothing else.
    """
    digest = hashlib.sha256(encoder.encoder_hash.encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    path = folder / f"{digest.hexdigest()[:24]}.npz"
    known = _load(path, texts)
    if known is not None:
        return known
    encoded = _encode(encoder, texts, progress)
    _save(path, encoded)
    return encoded


def _encode(encoder: Encoder, texts: Sequence[str], progress: Callable[[int], None] | None) -> Encoded:
    batches = []
    for start in range(0, max(1, len(texts)), BATCH):
        batches.append(encoder.encode(texts[start : start + BATCH]))
        if progress is not None:
            progress(min(start + BATCH, len(texts)))
    return Encoded(
        tuple(texts),
        np.concatenate([batch.vectors for batch in batches]),
        tuple(flag for batch in batches for flag in batch.truncated),
        tuple(count for batch in batches for count in batch.tokens),
        tuple(pieces for batch in batches for pieces in batch.word_pieces),
    )


def _load(path: Path, texts: Sequence[str]) -> Encoded | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            vectors, truncated, tokens = stored["vectors"], stored["truncated"], stored["tokens"]
            pieces = np.split(stored["pieces"], stored["ends"][:-1]) if len(stored["ends"]) else []
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    lengths = {len(vectors), len(truncated), len(tokens), len(texts)}
    if vectors.dtype != np.float32 or vectors.ndim != 2 or len(lengths) != 1 or len(pieces) not in {0, len(texts)}:  # noqa: PLR2004
        return None
    return Encoded(tuple(texts), vectors, tuple(truncated.tolist()), tuple(tokens.tolist()), tuple(pieces))


def _save(path: Path, encoded: Encoded) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    pieces = encoded.word_pieces
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(
                file,
                vectors=encoded.vectors,
                truncated=np.array(encoded.truncated, np.bool_),
                tokens=np.array(encoded.tokens, np.int64),
                pieces=np.concatenate(pieces).astype(np.int32) if pieces else np.empty(0, np.int32),
                ends=np.cumsum([len(own) for own in pieces]) if pieces else np.empty(0, np.int64),
            )
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
