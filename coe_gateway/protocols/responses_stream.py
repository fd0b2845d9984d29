"""OpenAI's /v1/responses: chunks of a chat completion as a response's events. Items may grow side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from coe_gateway.protocols.chat import Choice, ToolCall, Usage, chunks_of
from coe_gateway.protocols.dialect import event
from coe_gateway.protocols.responses_reply import text_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coe_gateway.protocols.responses_reply import Frame

_TEXT = -1  # the key of the message; those of calls are their indexes


@dataclass(slots=True)
class _Item:
    """One output item and what of it has come."""

    index: int
    call_id: str = ""
    name: str = ""
    said: str = ""


class ResponseStream:
    """One response on its way."""

    def __init__(self, expert: str, frame: Frame) -> None:
        self._expert = expert
        self._frame = frame
        self._sequence = -1
        self._items: dict[int, _Item] = {}
        self._finish: str | None = None
        self._usage: Usage | None = None

    def passed(self, events: bytes) -> bytes:
        """Whole events of a chat completion as a response's. Raises: StreamBroken."""
        return b"".join(self._passed(events))

    def end(self) -> bytes:
        """The ends of the items, and the whole response."""
        return b"".join(self._end())

    def _passed(self, events: bytes) -> Iterator[bytes]:
        for chunk in chunks_of(events, self._expert):
            yield from self._begin()
            self._usage = chunk.usage or self._usage
            for choice in chunk.choices:
                if choice.index == 0:
                    yield from self._choice(choice)

    def _begin(self) -> Iterator[bytes]:
        if self._sequence < 0:
            yield self._event("response.created", response=self._frame.begun(self._expert))
            yield self._event("response.in_progress", response=self._frame.begun(self._expert))

    def _choice(self, choice: Choice) -> Iterator[bytes]:
        self._finish = choice.finish_reason or self._finish
        if text := (choice.delta.content or choice.delta.refusal):
            yield from self._text(text)
        for call in choice.delta.tool_calls or ():
            yield from self._call(call)

    def _text(self, text: str) -> Iterator[bytes]:
        item = self._items.get(_TEXT)
        if item is None:
            item = self._items[_TEXT] = _Item(len(self._items))
            added = self._frame.message(item.index, "", "in_progress")
            yield self._event("response.output_item.added", output_index=item.index, item=added)
            yield self._event("response.content_part.added", **self._part(item), part=text_part(""))
        item.said += text
        yield self._event("response.output_text.delta", **self._part(item), delta=text, logprobs=[])

    def _call(self, call: ToolCall) -> Iterator[bytes]:
        key = call.index or 0
        item = self._items.get(key)
        if item is None:
            index = len(self._items)
            call_id = call.id or self._frame.item_id("call", index)
            item = self._items[key] = _Item(index, call_id, call.function.name or "")
            added = self._frame.call(index, item.call_id, item.name, "", "in_progress")
            yield self._event("response.output_item.added", output_index=index, item=added)
        if arguments := call.function.arguments:
            item.said += arguments
            yield self._event("response.function_call_arguments.delta", **self._own(item, "fc"), delta=arguments)

    def _end(self) -> Iterator[bytes]:
        yield from self._begin()
        output = []
        for key, item in self._items.items():
            if key == _TEXT:
                done = self._frame.message(item.index, item.said)
                part = self._part(item)
                yield self._event("response.output_text.done", **part, text=item.said, logprobs=[])
                yield self._event("response.content_part.done", **part, part=text_part(item.said))
            else:
                done = self._frame.call(item.index, item.call_id, item.name, item.said)
                own = self._own(item, "fc")
                yield self._event("response.function_call_arguments.done", **own, arguments=item.said, name=item.name)
            yield self._event("response.output_item.done", output_index=item.index, item=done)
            output.append(done)
        whole = self._frame.response(self._expert, output, self._finish, self._usage)
        yield self._event(f"response.{whole['status']}", response=whole)

    def _own(self, item: _Item, kind: str) -> dict[str, Any]:
        return {"item_id": self._frame.item_id(kind, item.index), "output_index": item.index}

    def _part(self, item: _Item) -> dict[str, Any]:
        return {**self._own(item, "msg"), "content_index": 0}

    def _event(self, kind: str, **fields: object) -> bytes:
        self._sequence += 1
        return event(kind, msgspec.json.encode({"type": kind, "sequence_number": self._sequence, **fields}))
