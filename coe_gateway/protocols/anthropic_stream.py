"""Anthropic's /v1/messages: chunks of a chat completion as a message's events.

A message's blocks come one after the other. Chat completions may mix pieces of several tool calls, so the block that
is open goes on as it comes, and the pieces of the others are kept until it is their turn: nothing is lost or merged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from coe_gateway.protocols.anthropic_reply import stop_of, usage_of
from coe_gateway.protocols.chat import Choice, ToolCall, Usage, chunks_of
from coe_gateway.protocols.dialect import event

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEXT = -1  # the key of the text block; those of tool calls are their indexes


@dataclass(slots=True)
class _Block:
    """One block. pending: pieces that wait until it is open."""

    start: dict[str, Any]
    pending: list[str] = field(default_factory=list)


class MessageStream:
    """One message on its way."""

    def __init__(self, expert: str, message_id: str) -> None:
        self._expert = expert
        self._id = message_id
        self._begun = False
        self._blocks: dict[int, _Block] = {}  # in the order in which they began
        self._open: int | None = None
        self._count = 0
        self._uses_tools = False
        self._last = Choice()
        self._usage: Usage | None = None

    def passed(self, events: bytes) -> bytes:
        """Whole events of a chat completion as a message's. Raises: StreamBroken."""
        return b"".join(self._passed(events))

    def end(self) -> bytes:
        """The blocks that waited, why it ended, and what it used."""
        return b"".join(self._end())

    def _passed(self, events: bytes) -> Iterator[bytes]:
        for chunk in chunks_of(events, self._expert):
            yield from self._begin()
            self._usage = chunk.usage or self._usage
            for choice in chunk.choices:
                if choice.index != 0:
                    continue
                if choice.finish_reason is not None:
                    self._last = choice
                if text := (choice.delta.content or choice.delta.refusal):
                    yield from self._piece(_TEXT, {"type": "text", "text": ""}, text)
                for call in choice.delta.tool_calls or ():
                    yield from self._tool_piece(call)

    def _begin(self) -> Iterator[bytes]:
        if self._begun:
            return
        self._begun = True
        start: dict[str, Any] = {
            "id": self._id, "type": "message", "role": "assistant", "model": self._expert, "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 0, "output_tokens": 0},
        }  # fmt: skip
        yield _event("message_start", message=start)

    def _tool_piece(self, call: ToolCall) -> Iterator[bytes]:
        self._uses_tools = True
        key = call.index or 0
        tool_id = call.id or f"toolu_{self._id[4:]}_{key}"
        start: dict[str, Any] = {"type": "tool_use", "id": tool_id, "name": call.function.name or "", "input": {}}
        yield from self._piece(key, start, call.function.arguments or "")

    def _piece(self, key: int, start: dict[str, Any], text: str) -> Iterator[bytes]:
        """A piece of a block: sent if the block is open or can be opened, else kept."""
        if self._open == key:
            if text:
                yield self._delta(key, text)
            return
        block = self._blocks.setdefault(key, _Block(start))
        if text:
            block.pending.append(text)
        if self._open == _TEXT:
            yield from self._stop()  # a text that a tool call follows is over, but for what little may come yet
        if self._open is None:
            yield from self._start(key)

    def _start(self, key: int) -> Iterator[bytes]:
        block = self._blocks.pop(key)
        self._open = key
        yield _event("content_block_start", index=self._count, content_block=block.start)
        if block.pending:
            yield self._delta(key, "".join(block.pending))

    def _delta(self, key: int, text: str) -> bytes:
        if key == _TEXT:
            delta = {"type": "text_delta", "text": text}
        else:
            delta = {"type": "input_json_delta", "partial_json": text}
        return _event("content_block_delta", index=self._count, delta=delta)

    def _stop(self) -> Iterator[bytes]:
        yield _event("content_block_stop", index=self._count)
        self._count += 1
        self._open = None

    def _end(self) -> Iterator[bytes]:
        yield from self._begin()
        if self._open is not None:
            yield from self._stop()
        for key in tuple(self._blocks):
            yield from self._start(key)
            yield from self._stop()
        stop = stop_of(self._last, uses_tools=self._uses_tools)
        yield _event("message_delta", delta=stop, usage=usage_of(self._usage))
        yield _event("message_stop")


def _event(kind: str, **fields: object) -> bytes:
    return event(kind, msgspec.json.encode({"type": kind, **fields}))
