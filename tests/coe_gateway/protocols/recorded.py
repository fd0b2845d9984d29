"""An upstream that plays chat completions back, byte for byte and cut where it is told, and tells what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

PARALLEL_CALLS: list[dict[str, Any]] = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"index": 0, "delta": {"content": "Ich schaue nach: 天気"}}]},
    {"choices": [{"index": 0, "delta": {"content": " 🌦️ …"}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 0, "id": "call_a", "type": "function", "function": {"name": "weather", "arguments": ""}}]}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Mü'}}]}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 1, "id": "call_b", "type": "function", "function": {"name": "time", "arguments": '{"zo'}}]}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": 'nchen"}'}}]}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "function": {"arguments": 'ne": "東京"}'}}]}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    {"choices": [], "usage": {
        "prompt_tokens": 30, "completion_tokens": 21, "total_tokens": 51,
        "prompt_tokens_details": {"cached_tokens": 10}}},
]  # fmt: skip
PARALLEL_WHOLE: dict[str, Any] = {
    "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
        "role": "assistant", "content": "Ich schaue nach: 天気 🌦️ …", "tool_calls": [
            {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "München"}'}},
            {"id": "call_b", "type": "function", "function": {"name": "time", "arguments": '{"zone": "東京"}'}},
        ]}}],
    "usage": PARALLEL_CALLS[-1]["usage"],
}  # fmt: skip


def text_chunks(*pieces: str, finish: str = "stop", **choice: object) -> list[dict[str, Any]]:
    """A stream that says these pieces."""
    said = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    usage = {"prompt_tokens": 5, "completion_tokens": len(pieces)}
    return [
        *said,
        {"choices": [{"index": 0, "delta": {}, "finish_reason": finish, **choice}]},
        {"choices": [], "usage": usage},
    ]


def sse(chunks: list[dict[str, Any]]) -> bytes:
    """Chunks as they come over the wire."""
    envelope = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "theirs"}
    events = [json.dumps({**envelope, **chunk}, ensure_ascii=False).encode() for chunk in chunks]
    return b"".join(b"data: " + event + b"\n\n" for event in events) + b"data: [DONE]\n\n"


@dataclass
class Recorded:
    """What is played, in pieces of `cut` bytes, and what was asked."""

    stream: list[dict[str, Any]] = field(default_factory=lambda: PARALLEL_CALLS)
    whole: dict[str, Any] = field(default_factory=lambda: PARALLEL_WHOLE)
    cut: int = 7
    broken_after: int | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        if not body.get("stream"):
            envelope = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "theirs"}
            return web.json_response({**envelope, **self.whole})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        data = sse(self.stream)[: self.broken_after]
        for start in range(0, len(data), self.cut):
            await response.write(data[start : start + self.cut])
            await asyncio.sleep(0)
        if self.broken_after is not None and request.transport is not None:
            request.transport.abort()
        return response


@contextlib.asynccontextmanager
async def playing(**fields: Any) -> AsyncIterator[Recorded]:
    """Serve a recording."""
    recorded = Recorded(**fields)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", recorded.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    recorded.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"  # type: ignore[union-attr]
    try:
        yield recorded
    finally:
        await runner.cleanup()


def expert(recorded: Recorded, **more: object) -> dict[str, object]:
    """The configuration's entry for it."""
    return {"id": "e", "backend": "openai", "base_url": recorded.url, "model": "theirs", **more}
