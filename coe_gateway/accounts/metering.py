"""What an expert says it used, read out of its answer on the way to the client."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from coe_gateway.accounts.estimate import likely_tokens

_BLANK_LINE: Final = re.compile(rb"(\r?\n\r?\n)")
_Tokens = Annotated[int, Meta(ge=0)]


class Used(NamedTuple):
    """Tokens of prompt and answer."""

    prompt_tokens: int
    output_tokens: int


class _Usage(msgspec.Struct):
    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens | None = 0


class _Reply(msgspec.Struct):
    usage: _Usage | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


_REPLY: Final = msgspec.json.Decoder(_Reply)
_CHUNK: Final = msgspec.json.Decoder(_Chunk)
_NOTHING: Final = _Chunk()
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def used_by(reply: bytes) -> Used | None:
    """What a whole answer says it used; None if it does not say."""
    try:
        return _used(_REPLY.decode(reply).usage)
    except _UNREADABLE:
        return None


@dataclass(slots=True)
class StreamMeter:
    """Counts a stream as it passes. show_usage: the client asked for the chunk with the usage; else it is ours alone.

    used: what the expert said; output_tokens: reckoned from the deltas, of which few hold more than a token.
    """

    show_usage: bool
    used: Used | None = None
    output_tokens: int = 0

    def passed(self, ready: bytes) -> bytes:
        """Count whole events, and give what of them goes on: every byte, but for a usage chunk nobody asked for."""
        ours = False
        for line in ready.split(b"\n"):
            if line.startswith(b"data:"):
                ours = self._is_ours(line) or ours
        if not ours:
            return ready
        parts = _BLANK_LINE.split(ready)
        kept = [i for i in range(0, len(parts), 2) if not self._is_ours(parts[i], count=False)]
        return b"".join(b"".join(parts[i : i + 2]) for i in kept)

    def _is_ours(self, event: bytes, *, count: bool = True) -> bool:
        """Whether it is the chunk with the usage, and nobody asked for it."""
        start = event.find(b"{")
        try:
            chunk = _CHUNK.decode(event[start:]) if start >= 0 else _NOTHING
        except _UNREADABLE:
            return False
        if count:
            self.output_tokens += sum(likely_tokens(_text_bytes(choice)) for choice in chunk.choices)
        if (used := _used(chunk.usage)) is None:
            return False
        self.used = used
        return not chunk.choices and not self.show_usage


def _used(usage: _Usage | None) -> Used | None:
    return None if usage is None else Used(usage.prompt_tokens, usage.completion_tokens or 0)


def _text_bytes(choice: _Choice) -> int:
    text, delta = choice.text or "", choice.delta
    if delta is not None:
        text += (delta.content or "") + (delta.reasoning_content or "")
        for call in delta.tool_calls or ():
            if call.function is not None:
                text += (call.function.name or "") + (call.function.arguments or "")
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
