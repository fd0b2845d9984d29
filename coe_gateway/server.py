"""Running a gateway as a process: listen, load, serve, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING

import uvicorn

from coe_gateway.admin.app import build_admin_app
from coe_gateway.app import build_app, open_gateway, own_schedule, prepare
from experts.errors import ConfigError, InvalidConfig, ShuttingDown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from types import FrameType

    from starlette.types import ASGIApp

    from coe_gateway.app import Schedule
    from coe_gateway.gateway import Gateway
    from coe_gateway.settings import Settings

_log = logging.getLogger(__name__)
_POLL_S = 0.02
_FAREWELL_S = 2.0
_BACKLOG = 2048


class DrainingServer(uvicorn.Server):
    """A server whose first SIGTERM or SIGINT drains and whose second one stops at once."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._drain: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by the interpreter between two instructions: only hand over to the loop."""
        if self._drain is not None or not self.started:
            super().handle_exit(sig, frame)
        else:
            self.drain()

    def drain(self) -> None:
        """Drain, then exit, as the first signal does."""
        if self._drain is None:
            self._drain = asyncio.get_running_loop().create_task(self._drain_then_exit())

    async def _drain_then_exit(self) -> None:
        await drain(self._gateway)
        self.should_exit = True


async def drain(gateway: Gateway) -> None:
    """Take no new work, let running answers finish, end with an error those that do not within the time they have."""
    gateway.admission.drain()
    _log.info("draining: %d requests are running", len(gateway.active))
    await _until_idle(gateway, gateway.settings.drain_timeout_s)
    for interruptible in tuple(gateway.active):
        interruptible.interrupt(ShuttingDown("the gateway is shutting down and could not wait for this answer"))
    await _until_idle(gateway, _FAREWELL_S)


async def serve(
    settings: Settings,
    environ: Mapping[str, str],
    on_listening: Callable[[str], None],
    schedule: Schedule = own_schedule,
) -> None:
    """Serve until a signal. Raises: InvalidConfig: the address cannot be had; ConfigError, SourceUnavailable."""
    listener = _listen("gateway", settings.gateway.host, settings.gateway.port)
    host, port = listener.getsockname()[:2]
    async with open_gateway(settings, environ, schedule) as gateway:
        server = DrainingServer(_uvicorn(build_app(gateway)), gateway)
        loading = asyncio.create_task(prepare(gateway, settings, environ))
        loading.add_done_callback(lambda task: setattr(server, "should_exit", _failed(task) or server.should_exit))
        on_listening(f"http://{host}:{port}")
        async with _admin_port(settings, gateway, server):
            await server.serve(sockets=[listener])
        if not loading.done():
            loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading


@contextlib.asynccontextmanager
async def _admin_port(settings: Settings, gateway: Gateway, server: DrainingServer) -> AsyncIterator[None]:
    """Serve the admin port beside the gateway, if it is set. Raises: InvalidConfig: its address cannot be had."""
    if settings.admin is None:
        yield
        return
    listener = _listen("admin", settings.admin.host, settings.admin.port)
    _log.info("admin port: http://%s:%d/admin", *listener.getsockname()[:2])
    admin = uvicorn.Server(_uvicorn(build_admin_app(gateway, server.drain)))
    serving = asyncio.create_task(admin._serve(sockets=[listener]))  # noqa: SLF001 - `serve` would take the signals too
    try:
        yield
    finally:
        admin.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)


def _uvicorn(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", loop="none", http="httptools",
        server_header=False, date_header=False,
        proxy_headers=False, timeout_graceful_shutdown=int(_FAREWELL_S), backlog=_BACKLOG,
    )  # fmt: skip


def _failed(task: asyncio.Task[None]) -> bool:
    return not task.cancelled() and task.exception() is not None


def _listen(section: str, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        problem = ConfigError(f"{section}.port", port, f"cannot listen on {host}: {error.strerror or error}")
        raise InvalidConfig("the configuration", [problem]) from error
    listener.set_inheritable(False)
    return listener


async def _until_idle(gateway: Gateway, timeout_s: float) -> None:
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    while gateway.active and asyncio.get_running_loop().time() < deadline_s:  # noqa: ASYNC110 - once, at the very end
        await asyncio.sleep(_POLL_S)
