"""What a chunk-cache may be kept under: equal keys mean that its keys and values are of use.

The token ids are part of the key, not the text: the same text becomes other tokens behind another separator. The
tenant is part of it, so that nobody finds, by content or by time, what another tenant has asked.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NewType

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

ChunkKey = NewType("ChunkKey", str)
_CHUNK: Final = b"coe chunk-cache 1"  # with another layout of what is kept, another number
_VARIANT: Final = b"coe chunk-cache variant 1"


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """All that a model's keys and values depend on beside the tokens.

    model, tokenizer: with their revision or hash. rope: the whole configuration of the positions, not the base alone.
    adapter: empty for the base alone.
    """

    model: str
    tokenizer: str
    dtype: str
    rope: str
    adapter: str = ""


def chunk_key(identity: ModelIdentity, tenant: str, token_ids: Sequence[int]) -> ChunkKey:
    """SHA-256 in hex that stands for these tokens of this tenant in this model.

    Raises: ValueError: there is no token, or one is not a token id.
    """
    if not token_ids:
        raise ValueError("token_ids is empty: a chunk has one token at least")
    if min(token_ids) < 0 or max(token_ids) >= 2**32:
        raise ValueError(f"token_ids has {min(token_ids)} to {max(token_ids)}: each must be from 0 to 2**32 - 1")
    tokens = np.asarray(token_ids, dtype="<u4").tobytes()
    return ChunkKey(_digest(_CHUNK, *astuple(identity), tenant, tokens))


def variant_key(chunk: ChunkKey, prefix: Sequence[ChunkKey], *, exact: bool) -> str:
    """SHA-256 in hex that stands for a chunk as it was computed behind this prefix, which was exact itself or not."""
    return _digest(_VARIANT, b"exact" if exact else b"approximate", chunk, *prefix)


def _digest(*parts: str | bytes) -> str:
    """A hash in which no two different lists of parts meet: each part goes in behind its length."""
    digest = sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()
