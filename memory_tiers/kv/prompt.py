"""A prompt in pieces: what always comes first, the chunks, the question. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from memory_tiers.kv.chunk_key import ChunkKey, chunk_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memory_tiers.kv.chunk_key import ModelIdentity

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids. head: what stands before every context, system prompt and template; it may be empty."""

    head: Tokens
    chunks: tuple[Tokens, ...]
    question: Tokens

    def __post_init__(self) -> None:
        for at, chunk in enumerate(self.chunks):
            if not chunk:
                raise ValueError(f"chunks[{at}] is empty")

    @property
    def context_tokens(self) -> int:
        """All before the question."""
        return len(self.head) + sum(map(len, self.chunks))

    @property
    def tokens(self) -> Tokens:
        """The whole prompt."""
        return tuple(token for part in (self.head, *self.chunks, self.question) for token in part)


@dataclass(frozen=True, slots=True)
class Piece:
    """The head or one chunk where it stands. prefix: the keys of the pieces before it."""

    key: ChunkKey
    start: int
    end: int
    prefix: tuple[ChunkKey, ...]
    is_head: bool = False

    @property
    def length(self) -> int:
        """Its tokens."""
        return self.end - self.start


def pieces_of(prompt: Prompt, identity: ModelIdentity, tenant: str) -> list[Piece]:
    """The pieces before the question, in order."""
    parts: Sequence[Tokens] = [part for part in (prompt.head, *prompt.chunks) if part]
    keys = tuple(chunk_key(identity, tenant, part) for part in parts)
    ends = list(accumulate(map(len, parts)))
    return [
        Piece(keys[at], end - len(part), end, keys[:at], is_head=at == 0 and bool(prompt.head))
        for at, (part, end) in enumerate(zip(parts, ends, strict=True))
    ]
