"""Which conversation a request belongs to: what the client says, else how the conversation began."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from coe_gateway.wire import ChatRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coe_gateway.wire import CompletionRequest

SESSION_HEADERS: Final = (b"x-session-id", b"x-conversation-id")
_MOST: Final = 2048  # characters of each turn that began it; more would only take time
_ENCODE: Final = msgspec.json.Encoder().encode


def conversation_of(headers: Mapping[bytes, bytes], body: ChatRequest | CompletionRequest) -> str | None:
    """A key that is the same for every turn of a conversation; None where there is no telling.

    Clients send the whole conversation with every turn, so its first user message and whatever stands before it are
    always the same. The key is a digest: it says nothing of the text.
    """
    for name in SESSION_HEADERS:
        if given := headers.get(name):
            return blake2b(given[:_MOST], digest_size=12).hexdigest()
    if not isinstance(body, ChatRequest):
        return None if body.user is None else _digest(body.user)
    beginning = []
    for message in body.messages:
        content = message.content
        beginning.append((message.role, content[:_MOST] if isinstance(content, str) else content))
        if message.role == "user":
            break
    return _digest((body.user, beginning))


def _digest(beginning: object) -> str:
    return blake2b(_ENCODE(beginning), digest_size=12).hexdigest()
