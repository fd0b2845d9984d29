"""Anthropic's /v1/messages as an endpoint speaks it."""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING, Final

import msgspec

from coe_gateway.errors import wire_of
from coe_gateway.protocols.anthropic_reply import message
from coe_gateway.protocols.anthropic_request import MessagesRequest, chat_request
from coe_gateway.protocols.anthropic_stream import MessageStream
from coe_gateway.protocols.dialect import TranslatingDialect, event
from coe_gateway.routes.endpoint import decode
from experts.errors import CoeError

if TYPE_CHECKING:
    from collections.abc import Mapping

_DECODER: Final = msgspec.json.Decoder(MessagesRequest)
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class AnthropicDialect(TranslatingDialect):
    """Keys in `x-api-key` too, errors in Anthropic's shape."""

    def key(self, headers: Mapping[bytes, bytes]) -> str:
        """The header with the key, as `Authorization` would have it."""
        given = super().key(headers)
        if not given and (own := headers.get(b"x-api-key")):
            return f"Bearer {own.decode('latin-1')}"
        return given

    def error_body(self, error: Exception) -> bytes:
        """An error as a whole body."""
        said = str(error) if isinstance(error, CoeError) else "internal error; the log has it under the request id"
        kind = _TYPES.get(wire_of(error).status, "api_error")
        return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": said}})

    def error_event(self, error: Exception) -> bytes:
        """An error as the last event of a stream."""
        return event("error", self.error_body(error))

    def translated(self, raw: bytes) -> MessagesTranslation:
        """A request. Raises: InvalidRequest, UnsupportedField."""
        return MessagesTranslation(raw)


class MessagesTranslation:
    """One request to /v1/messages."""

    def __init__(self, raw: bytes) -> None:
        self.chat = msgspec.json.encode(chat_request(decode(_DECODER, raw)))

    def whole(self, data: bytes, expert: str) -> bytes:
        """A whole answer. Raises: StreamBroken."""
        return msgspec.json.encode(message(data, expert, _message_id()))

    def stream(self, expert: str) -> MessageStream:
        """A stream that has not begun."""
        return MessageStream(expert, _message_id())


def _message_id() -> str:
    return f"msg_{token_hex(12)}"
