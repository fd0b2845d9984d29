"""How much a request may use at most, before anybody has counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from coe_gateway.wire import ChatRequest, CompletionRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

_OVERHEAD_TOKENS: Final = 16  # what a chat template puts around messages that the body has no bytes for
_PART_TOKENS: Final = 2048  # an image or a recording; its bytes say nothing of its tokens
_TYPICAL_BYTES: Final = 4  # of text per token
_COMPLETION_TOKENS: Final = 16  # OpenAI's default where a text completion names no bound


def prompt_bound(body: ChatRequest | CompletionRequest, raw: bytes, bytes_per_token: float) -> int:
    """Tokens that the prompt takes at most, if no token is shorter than `bytes_per_token` on average.

    The whole body counts, tools and punctuation of JSON included, but for media: the price of never walking it.
    """
    size, media = len(raw), 0
    for part in _parts(body):
        encoded = _media_bytes(part)
        if encoded is not None:
            size, media = size - encoded, media + 1
    return int(max(size, 0) / bytes_per_token) + media * _PART_TOKENS + _OVERHEAD_TOKENS


def likely_tokens(size_bytes: int) -> int:
    """Tokens that so many bytes of text likely are."""
    return -(-size_bytes // _TYPICAL_BYTES)


def output_bound(body: ChatRequest | CompletionRequest, unnamed: int) -> int:
    """Tokens that every answer together takes at most; unnamed: of one for which the request names no bound."""
    choices, each = body.n or 1, body.max_tokens or 0
    if isinstance(body, CompletionRequest):
        choices = max(choices, body.best_of or 1) * (len(body.prompt) if _is_list_of_prompts(body.prompt) else 1)
    else:
        each = max(each, body.max_completion_tokens or 0)  # engines differ in which they obey
    return choices * (each or unnamed)


def unnamed_bound(body: ChatRequest | CompletionRequest, default_tokens: int) -> int:
    """The bound on one answer where the request names none."""
    return _COMPLETION_TOKENS if isinstance(body, CompletionRequest) else default_tokens


def names_a_bound(body: ChatRequest | CompletionRequest) -> bool:
    """Whether the request itself bounds its answer."""
    return body.max_tokens is not None or getattr(body, "max_completion_tokens", None) is not None


def _is_list_of_prompts(prompt: object) -> bool:
    return isinstance(prompt, list) and any(isinstance(item, str | list) for item in prompt)


def _parts(body: ChatRequest | CompletionRequest) -> Iterable[dict[str, Any]]:
    if isinstance(body, ChatRequest):
        for message in body.messages:
            if isinstance(message.content, list):
                yield from message.content


def _media_bytes(part: dict[str, Any]) -> int | None:
    """The size of an image's or a recording's text form; None if the part is neither."""
    match part:
        case {"image_url": {"url": str(url)}}:
            return len(url)
        case {"input_audio": {"data": str(encoded)}}:
            return len(encoded)
        case {"type": "image_url" | "input_audio"}:
            return 0
    return None
