"""OpenAI's /v1/responses as an endpoint speaks it."""

from __future__ import annotations

import time
from secrets import token_hex
from typing import Final

import msgspec

from coe_gateway.errors import wire_of
from coe_gateway.protocols.dialect import TranslatingDialect, event
from coe_gateway.protocols.responses_reply import Frame, response
from coe_gateway.protocols.responses_request import ResponsesRequest, chat_request
from coe_gateway.protocols.responses_stream import ResponseStream
from coe_gateway.routes.endpoint import decode
from experts.errors import CoeError, RequestError

_DECODER: Final = msgspec.json.Decoder(ResponsesRequest)
_LAST: Final = 2**31 - 1  # a stream that breaks does not say how far it was


class ResponsesDialect(TranslatingDialect):
    """Errors of a stream as events of it; whole ones are OpenAI's anyway."""

    def error_event(self, error: Exception) -> bytes:
        """An error as the last event of a stream."""
        said = str(error) if isinstance(error, CoeError) else "internal error; the log has it under the request id"
        param = error.param if isinstance(error, RequestError) else None
        fields = {"code": wire_of(error).code, "message": said, "param": param, "sequence_number": _LAST}
        return event("error", msgspec.json.encode({"type": "error", **fields}))

    def translated(self, raw: bytes) -> ResponsesTranslation:
        """A request. Raises: InvalidRequest, UnsupportedField."""
        return ResponsesTranslation(raw)


class ResponsesTranslation:
    """One request to /v1/responses."""

    def __init__(self, raw: bytes) -> None:
        self._body = decode(_DECODER, raw)
        self.chat = msgspec.json.encode(chat_request(self._body))

    def whole(self, data: bytes, expert: str) -> bytes:
        """A whole answer. Raises: StreamBroken."""
        return msgspec.json.encode(response(data, expert, self._frame()))

    def stream(self, expert: str) -> ResponseStream:
        """A stream that has not begun."""
        return ResponseStream(expert, self._frame())

    def _frame(self) -> Frame:
        return Frame(self._body, token_hex(16), int(time.time()))
