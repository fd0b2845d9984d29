"""The fixed replies of the mock upstream, as the bytes that go on the wire."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

CHAT_PATH: Final = b"/v1/chat/completions"
COMPLETIONS_PATH: Final = b"/v1/completions"
MODELS_PATH: Final = b"/v1/models"
STATS_PATH: Final = b"/stats"
CREATED_S: Final = 1_700_000_000
PROMPT_TOKENS: Final = 8
WORDS: Final = ("The", " mock", " upstream", " answers", " every", " prompt", " alike.", " Again:")
SSE_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def http_reply(body: bytes, status: bytes = b"200 OK") -> bytes:
    """Frame a JSON body as one HTTP/1.1 reply."""
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def mock_text(deltas: int) -> str:
    """Give the text that every reply carries, `deltas` words long."""
    return "".join(WORDS[i % len(WORDS)] for i in range(deltas))


class ReplyBook:
    """Every reply for one number of deltas; the bytes of the last 64 models are kept.

    whole: one write, HTTP head included. stream: one write per event, the head with the first.
    """

    def __init__(self, deltas: int) -> None:
        self._deltas = deltas
        self.whole = lru_cache(maxsize=64)(self._whole)
        self.stream = lru_cache(maxsize=64)(self._stream)

    def models(self) -> bytes:
        """List one model."""
        model = {"id": "mock", "object": "model", "created": CREATED_S, "owned_by": "eval"}
        return http_reply(msgspec.json.encode({"object": "list", "data": [model]}))

    def _usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": self._deltas,
            "total_tokens": PROMPT_TOKENS + self._deltas,
        }

    def _whole(self, model: str, chat: bool) -> tuple[bytes]:  # noqa: FBT001 -- a cache key, always positional
        text = mock_text(self._deltas)
        content: dict[str, object] = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice: dict[str, object] = {"index": 0, **content, "logprobs": None, "finish_reason": "stop"}
        body = _envelope(model, [choice], chat=chat, streamed=False) | {"usage": self._usage()}
        return (http_reply(msgspec.json.encode(body)),)

    def _stream(self, model: str, chat: bool, usage: bool) -> tuple[bytes, ...]:  # noqa: FBT001 -- as above
        choices = _chat_choices(self._deltas) if chat else _text_choices(self._deltas)
        events = [_envelope(model, [choice], chat=chat, streamed=True) for choice in choices]
        if usage:
            events.append(_envelope(model, [], chat=chat, streamed=True) | {"usage": self._usage()})
        frames = [_frame(msgspec.json.encode(event)) for event in events]
        return (SSE_HEAD + frames[0], *frames[1:], _frame(b"[DONE]") + b"0\r\n\r\n")


def _envelope(model: str, choices: list[dict[str, object]], *, chat: bool, streamed: bool) -> dict[str, object]:
    kind = ("chat.completion.chunk" if streamed else "chat.completion") if chat else "text_completion"
    name = "chatcmpl-mock" if chat else "cmpl-mock"
    return {"id": name, "object": kind, "created": CREATED_S, "model": model, "choices": choices}


def _chat_choices(deltas: int) -> list[dict[str, object]]:
    first: dict[str, object] = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    words: list[dict[str, object]] = [
        {"index": 0, "delta": {"content": WORDS[i % len(WORDS)]}, "finish_reason": None} for i in range(deltas)
    ]
    return [first, *words, {"index": 0, "delta": {}, "finish_reason": "stop"}]


def _text_choices(deltas: int) -> list[dict[str, object]]:
    words: list[dict[str, object]] = [
        {"index": 0, "text": WORDS[i % len(WORDS)], "logprobs": None, "finish_reason": None} for i in range(deltas)
    ]
    return [*words, {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]


def _frame(event: bytes) -> bytes:
    """Frame one server-sent event as one HTTP chunk."""
    payload = b"data: " + event + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(payload), payload)
