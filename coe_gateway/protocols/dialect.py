"""What a protocol has to offer so that an endpoint can speak it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

from coe_gateway.errors import error_body
from coe_gateway.sse import error_event

if TYPE_CHECKING:
    from collections.abc import Mapping


class StreamTranslation(Protocol):
    """One stream on its way. Both raise StreamBroken: what comes is no chat completion."""

    def passed(self, events: bytes) -> bytes:
        """Whole events of a chat completion as events of the protocol; may be empty."""

    def end(self) -> bytes:
        """The events that end the stream."""


class Translation(Protocol):
    """One request and its answer. chat: the request as a chat completion's."""

    @property
    def chat(self) -> bytes:
        """The body for `/v1/chat/completions`."""

    def whole(self, data: bytes, expert: str) -> bytes:
        """A whole answer. Raises: StreamBroken."""

    def stream(self, expert: str) -> StreamTranslation:
        """A stream that has not begun."""


class Dialect:
    """How an endpoint speaks of itself; this one as OpenAI's chat completions do."""

    def key(self, headers: Mapping[bytes, bytes]) -> str:
        """The header with the key, as `Authorization` would have it."""
        return headers.get(b"authorization", b"").decode("latin-1")

    def error_body(self, error: Exception) -> bytes:
        """An error as a whole body."""
        return error_body(error)

    def error_event(self, error: Exception) -> bytes:
        """An error as the last event of a stream."""
        return error_event(error_body(error))


class TranslatingDialect(Dialect, ABC):
    """A dialect with requests of its own."""

    @abstractmethod
    def translated(self, raw: bytes) -> Translation:
        """A request. Raises: InvalidRequest, UnsupportedField."""


OPENAI = Dialect()


def event(kind: str, data: bytes) -> bytes:
    """A server-sent event with a name."""
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
