"""What a passage's work may be kept under: equal keys mean that the work is the same.

The content key says which passage it is: it is what a file's duplicates share, and it never crosses from one tenant to
another. The KV key says whose attention over it: a chunk-cache computed by one model is worth nothing to another.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

_CONTENT_CHARS: Final = 32
_CONTENT: Final = b"coe content 1"
_KV: Final = b"coe kv 1"


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """All that a model's keys and values over a text depend on, beside the text.

    model, tokenizer: with their revision or hash. adapter: empty for the base alone.
    """

    model: str
    tokenizer: str
    dtype: str
    rope: str
    adapter: str = ""


def content_key(tenant: str, text: str) -> str:
    """32 hex digits that stand for this text of this tenant."""
    return _digest(_CONTENT, tenant, text)[:_CONTENT_CHARS]


def kv_key(content: str, model: ModelIdentity) -> str:
    """SHA-256 that stands for the keys and values of `model` over the passage with this content key.

    The tenant is part of it, being part of the content key; the token ids are, being made by the tokenizer from the
    text.
    """
    return _digest(_KV, content, model.model, model.tokenizer, model.dtype, model.rope, model.adapter)


def chunk_id(content: str, sequence: int) -> str:
    """The public id of one passage: its content key, and its place in the store, which tells duplicates apart."""
    return f"chunk_{content}_{sequence}"


def sequence_of(chunk: str) -> int:
    """The place a chunk id names. Raises: ValueError: it is no chunk id."""
    kind, _, rest = chunk.partition("_")
    content, _, sequence = rest.rpartition("_")
    if kind != "chunk" or len(content) != _CONTENT_CHARS or not sequence.isdecimal():
        raise ValueError(f"{chunk!r} is not a chunk id")
    return int(sequence)


def _digest(*parts: str | bytes) -> str:
    """A hash in which no two different lists of parts meet: each part goes in behind its length."""
    digest = sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()
