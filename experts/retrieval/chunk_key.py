"""Which passage a passage is: what a file's duplicates share, and what never crosses from one tenant to another.

Keys and values of a model over it are kept under another key, which is of its tokens: memory_tiers/kv/chunk_key.py.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

_CONTENT_CHARS: Final = 32
_CONTENT: Final = b"coe content 1"


def content_key(tenant: str, text: str) -> str:
    """32 hex digits that stand for this text of this tenant."""
    return _digest(_CONTENT, tenant, text)[:_CONTENT_CHARS]


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
