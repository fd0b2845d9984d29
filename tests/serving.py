"""A gateway on a real port in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import uvicorn

from coe_gateway.app import build_app, open_gateway, prepare
from coe_gateway.gateway import Gateway
from coe_gateway.settings import Settings


@dataclass(frozen=True)
class Served:
    """A gateway that listens."""

    url: str
    gateway: Gateway


@contextlib.asynccontextmanager
async def serving(
    document: Mapping[str, object], environ: Mapping[str, str] | None = None, *, ready: bool = True
) -> AsyncIterator[Served]:
    """Serve a configuration on a free port; ready=False leaves it loading."""
    settings = Settings.model_validate(document)
    async with open_gateway(settings, environ or {}) as gateway:
        if ready:
            await prepare(gateway, settings, environ or {})
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            build_app(gateway), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.005)
        try:
            yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", gateway)
        finally:
            server.should_exit = True
            await task


def echo(name: str = "parrot", **more: object) -> dict[str, object]:
    """An echo expert's entry."""
    return {"id": name, "backend": "echo", **more}


def chat(text: str = "hello there", **more: object) -> dict[str, object]:
    """A chat request's body."""
    return {"model": "parrot", "messages": [{"role": "user", "content": text}], **more}
