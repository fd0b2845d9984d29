"""Server-sent events on their way through: never split, never merged, never cut silently."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from experts.errors import StreamBroken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_DONE: Final = re.compile(rb"(?:^|\n)data: ?\[DONE\]\s*$")
_BLANK_LINE: Final = re.compile(rb"(\r?\n\r?\n)")
_TAIL_BYTES: Final = 32
_OVERLAP_BYTES: Final = 3  # a blank line may begin this far before what is new
_MAX_EVENT_BYTES: Final = 8 * 1024**2


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
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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

    So what has been sent always ends with a whole event, and an error event can follow it. `[DONE]` ends the answer,
    whatever the engine does after it.
    Raises: StreamBroken: the stream ended without `[DONE]`, or an event has no end within 8 MiB.
    """
    held = bytearray()
    async for chunk in chunks:
        seen = max(len(held) - _OVERLAP_BYTES, 0)
        held += chunk
        end = _last_event_end(held, seen)
        if end:
            ready = bytes(held[:end])
            del held[:end]
            yield ready if name is None else _renamed(ready, name)
            if _DONE.search(ready[-_TAIL_BYTES:]):
                return
        elif len(held) > _MAX_EVENT_BYTES:
            raise StreamBroken(expert_id, f"an event is longer than {_MAX_EVENT_BYTES} bytes")
    if not _DONE.search(held):
        raise StreamBroken(expert_id, "the stream ended before it was complete")
    yield bytes(held)  # some servers do not end the last event with a blank line


def error_event(body: bytes) -> bytes:
    """An error as the last event of a stream; no `[DONE]` follows it."""
    return b"data: " + body + b"\n\n"


def _last_event_end(data: bytearray, start: int) -> int:
    """Where the last whole event ends, 0 if none does; looks no further back than `start`."""
    plain, crlf = data.rfind(b"\n\n", start), data.rfind(b"\r\n\r\n", start)
    return max(plain + 2 if plain >= 0 else 0, crlf + 4 if crlf >= 0 else 0)


def _renamed(ready: bytes, name: ModelName) -> bytes:
    """Every event renamed, every blank line between them as it was."""
    return b"".join(name.rewrite(part) if i % 2 == 0 else part for i, part in enumerate(_BLANK_LINE.split(ready)))
