"""The least that a Python gateway can do: decode the body, forward it, give the answer back. The language's ceiling.

Run as `python -m eval.serving.bare_proxy --upstream http://127.0.0.1:PORT`; prints `{"port": N}` when ready, stops
when stdin closes. One process: uvicorn, uvloop, httptools; aiohttp as the client; msgspec reads the body.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec
import uvicorn
import uvloop

from eval.serving.stdin_life import run_until_stdin_closes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping, Sequence

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

JSON_HEADERS: Final = {"content-type": "application/json"}


class Forwarded(msgspec.Struct):
    """What the proxy reads of a body before it forwards it."""

    model: str
    stream: bool = False


class BareProxy:
    """An ASGI application that forwards every POST to the same path of `upstream`."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._session: aiohttp.ClientSession | None = None
        self._decode = msgspec.json.Decoder(Forwarded).decode

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:  # noqa: D102 -- ASGI's contract
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._forward(scope["path"], await _body(receive), send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _forward(self, path: str, body: bytes, send: Send) -> None:
        if self._session is None:
            raise RuntimeError("a request came before the lifespan started")
        request = self._decode(body)
        async with self._session.post(self._upstream + path, data=body, headers=JSON_HEADERS) as answer:
            headers = [(b"content-type", answer.headers["content-type"].encode())]
            if not request.stream:
                payload = await answer.read()
                headers.append((b"content-length", b"%d" % len(payload)))
                await send({"type": "http.response.start", "status": answer.status, "headers": headers})
                await send({"type": "http.response.body", "body": payload})
                return
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for piece in answer.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message["body"]
    while message.get("more_body", False):
        message = await receive()
        body += message["body"]
    return body


async def serve_proxy(upstream: str, port: int) -> None:
    """Serve on 127.0.0.1 until stdin closes; port 0 takes a free one."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    config = uvicorn.Config(
        BareProxy(upstream), http="httptools", lifespan="on", access_log=False, log_level="warning", ws="none"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await run_until_stdin_closes(listener.getsockname()[1])
    server.should_exit = True
    await serving


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="eval.serving.bare_proxy", description=__doc__)
    parser.add_argument("--upstream", required=True, help="http://127.0.0.1:PORT, without a path")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    options = parser.parse_args(arguments)
    uvloop.run(serve_proxy(options.upstream, options.port))


if __name__ == "__main__":
    main()
