"""Server-sent events on their way through: never split, never merged, never cut silently."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from experts.errors import StreamBroken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_DONE = re.compile(rb"(?:^|\n)data: ?\[DONE\]\s*$")
_TAIL_BYTES = 32


class _Named(msgspec.Struct):
    model: str = ""


class ModelName:
    """Gives replies the expert's id as `model` where its engine knows it by another name."""

    def __init__(self, expert_id: str) -> None:
        self._name = b'"model":' + msgspec.json.encode(expert_id)
        self._expert_id = expert_id
        self._theirs = ""
        self._pattern: re.Pattern[bytes] | None = None

    def rewrite(self, event: bytes) -> bytes:
        """The same bytes but for the value of `model`."""
        start = event.find(b"{")
        if start < 0:
            return event
        try:
            theirs = msgspec.json.decode(event[start:].rstrip(), type=_Named).model
        except msgspec.DecodeError:
            return event
        if not theirs or theirs == self._expert_id:
            return event
        if self._pattern is None or theirs != self._theirs:
            self._theirs = theirs
            self._pattern = re.compile(rb'"model"\s*:\s*' + re.escape(msgspec.json.encode(theirs)))
        return self._pattern.sub(lambda _: self._name, event, count=1)


async def whole_events(
    chunks: AsyncIterator[bytes], expert_id: str, name: ModelName | None = None
) -> AsyncIterator[bytes]:
    """Pass `chunks` on as they come, holding back only an event's beginning until its end is there.

    So what has been sent always ends with a whole event, and an error event can follow it.
    Raises: StreamBroken: the stream ended without `[DONE]`.
    """
    held, tail = b"", b""
    async for chunk in chunks:
        data = held + chunk if held else chunk
        end = _last_event_end(data)
        held = data[end:]
        if end:
            ready = data[:end] if held else data
            tail = ready[-_TAIL_BYTES:]
            yield ready if name is None else _renamed(ready, name)
    if held and _DONE.search(held):  # some servers do not end the last event with a blank line
        yield held
    elif held or not _DONE.search(tail):
        raise StreamBroken(expert_id, "the stream ended before it was complete")


def error_event(body: bytes) -> bytes:
    """An error as the last event of a stream; no `[DONE]` follows it."""
    return b"data: " + body + b"\n\n"


def _last_event_end(data: bytes) -> int:
    """Where the last whole event ends, 0 if none does."""
    end = data.rfind(b"\n\n") + 2
    crlf = data.rfind(b"\r\n\r\n") + 4
    return max(end if end > 1 else 0, crlf if crlf > 3 else 0)  # noqa: PLR2004 - rfind's -1 plus the length


def _renamed(ready: bytes, name: ModelName) -> bytes:
    return b"\n\n".join(name.rewrite(event) for event in ready.split(b"\n\n"))
