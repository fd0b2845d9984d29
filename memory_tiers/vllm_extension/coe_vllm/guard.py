"""The door of a private vLLM server: `--middleware coe_vllm.guard.RequireKey`.

vLLM's own key guards `/v1` and little else. The development endpoints, by which a server is put to sleep and made to
run verbs, would answer anybody on this machine.
"""

from __future__ import annotations

import os
import secrets
from typing import Any

KEY_VARIABLE = "VLLM_API_KEY"  # vLLM reads it too; an argument would be in everybody's process list


class RequireKey:
    """ASGI: every path wants `Authorization: Bearer`, whatever it is."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401 - ASGI has no types of its own
        self._app = app
        self._wanted = b"Bearer " + os.environ[KEY_VARIABLE].encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - as above
        """Let known callers through, answer 401 to the others."""
        if scope["type"] == "lifespan" or self._is_known(scope["headers"]):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"error": {"message": "wrong key"}}'})

    def _is_known(self, headers: list[tuple[bytes, bytes]]) -> bool:
        given = next((value for name, value in headers if name.lower() == b"authorization"), b"")
        return secrets.compare_digest(given, self._wanted)
