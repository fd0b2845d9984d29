"""The composition root: the only place where concrete classes are chosen."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from coe_gateway.access_log import AccessLog
from coe_gateway.accounts.opening import build_accounts
from coe_gateway.admission import Admission
from coe_gateway.errors import error_response, http_error
from coe_gateway.gateway import Gateway
from coe_gateway.metrics import Metrics
from coe_gateway.openapi import openapi_document
from coe_gateway.page_keepers import gpus_in_turns, open_page_keepers
from coe_gateway.protocols.anthropic import AnthropicDialect
from coe_gateway.protocols.responses import ResponsesDialect
from coe_gateway.reload import RouterReloader
from coe_gateway.retrieval.service import open_retrieval
from coe_gateway.routes.completions import CompletionEndpoint
from coe_gateway.routes.decision import RouteEndpoint
from coe_gateway.routes.health import HealthEndpoint
from coe_gateway.routes.models import ModelsEndpoint
from coe_gateway.routes.reload import ReloadEndpoint
from coe_gateway.routes.retrieval_routes import retrieval_routes
from coe_gateway.routes.translated import TranslatedEndpoint
from coe_gateway.settings import resolve_secret, weights_dir
from coe_gateway.vllm_experts import vllm_backends
from coe_gateway.wire import ChatRequest, CompletionRequest
from experts.backends.canned import CannedBackend
from experts.backends.echo import EchoBackend
from experts.backends.llama_cpp import LlamaCppBackend
from experts.backends.openai_http import OpenAiHttpBackend
from experts.registry import CannedEntry, OpenAiEntry
from experts.types import ExpertId
from experts.weights import WeightStore
from memory_tiers.manager import ResidencyManager
from memory_tiers.rules import Rules
from memory_tiers.scheduling import scheduler_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from coe_gateway.residency_settings import ResidencySettings
    from coe_gateway.settings import Settings
    from experts.backend import ExpertBackend
    from experts.registry import ExpertEntry
    from experts.types import ExpertSpec
    from memory_tiers.scheduling import Scheduling

    Schedule = Callable[[Sequence[ExpertSpec], ResidencySettings], Scheduling]

_LOG_EVERY_S: Final = 1.0


def own_schedule(specs: Sequence[ExpertSpec], residency: ResidencySettings) -> Scheduling:
    """The scheduler that the settings ask for."""
    rules = Rules(join_window_s=residency.join_window_s, max_wait_s=residency.max_wait_s, prefetch=residency.prefetch)
    host_bytes = int(residency.host_budget_bytes)
    return scheduler_of(specs, residency.budgets_bytes, host_bytes, rules=rules, policy=residency.policy)


@contextlib.asynccontextmanager
async def open_gateway(
    settings: Settings, environ: Mapping[str, str], schedule: Schedule = own_schedule
) -> AsyncIterator[Gateway]:
    """Build a gateway from its settings and take it down again, experts included. It is not ready before `prepare`.

    schedule: makes the scheduler; another than the product's own is there to be compared with it.
    Raises: ConfigError: a secret is not set.
    """
    store = WeightStore(weights_dir(settings, environ))
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)
    async with (
        aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),  # one client's cookies are none of another's
        ) as session,
        contextlib.AsyncExitStack() as running,
    ):
        backends: dict[ExpertId, ExpertBackend] = {}
        engines = settings.engines.folder(environ)
        keepers = await running.enter_async_context(
            open_page_keepers(gpus_in_turns(settings.experts), settings.residency.budgets_bytes)
        )
        on_vllm = vllm_backends(
            settings.experts,
            session,
            engines,
            lambda expert_id: residency.lease(expert_id),  # noqa: PLW0108 - it is made of these
            keepers,
        )
        for i, entry in enumerate(settings.experts):
            backend = on_vllm.get(entry.id) or _backend(entry, f"experts[{i}]", session, store, environ)
            backends[backend.spec.id] = backend
        metrics = Metrics()
        residency = ResidencyManager(
            backends,
            schedule([backend.spec for backend in backends.values()], settings.residency),
            load_timeout_s=settings.residency.load_timeout_s,
            on_swap=metrics.swapped,
        )
        keys = [
            resolve_secret(f"gateway.api_keys[{i}]", ref, environ) for i, ref in enumerate(settings.gateway.api_keys)
        ]
        gateway = Gateway(
            settings=settings.gateway,
            backends=backends,
            residency=residency,
            admission=Admission(settings.gateway.max_in_flight, settings.gateway.max_queued),
            metrics=metrics,
            router=None,
            key_digests=frozenset(sha256(key.encode()).digest() for key in keys),
            active=set(),
            classes=settings.residency.classes,
        )
        if settings.accounts is not None:
            specs = [backend.spec for backend in backends.values()]
            gateway.accounts = build_accounts(settings.accounts, specs, metrics, environ)
        metrics.export(gateway.admission, residency, gateway.rows_waiting)
        if settings.retrieval is not None:
            gateway.retrieval = await running.enter_async_context(open_retrieval(settings.retrieval, store, environ))
        logging_requests = _logging_requests(gateway, settings)
        try:
            yield gateway
        finally:
            gateway.ready = False
            await _ended(logging_requests, gateway)
            if gateway.accounts is not None:
                await gateway.accounts.close()
            await residency.close()
            if gateway.router is not None:
                gateway.router.close()


def _logging_requests(gateway: Gateway, settings: Settings) -> asyncio.Task[None] | None:
    """Write the access log as it fills, off the event loop."""
    if settings.gateway.access_log is None:
        return None
    log = gateway.access_log = AccessLog(settings.gateway.access_log.expanduser())

    async def write_now_and_then() -> None:
        while True:
            await asyncio.sleep(_LOG_EVERY_S)
            await asyncio.to_thread(log.write)

    return asyncio.create_task(write_now_and_then())


async def _ended(logging_requests: asyncio.Task[None] | None, gateway: Gateway) -> None:
    if logging_requests is None or gateway.access_log is None:
        return
    logging_requests.cancel()
    await asyncio.gather(logging_requests, return_exceptions=True)
    await asyncio.to_thread(gateway.access_log.write)


async def prepare(gateway: Gateway, settings: Settings, environ: Mapping[str, str]) -> None:
    """Load what takes time; the gateway is ready afterwards. Raises: SourceUnavailable, ConfigError."""
    if gateway.reloader is None:
        gateway.reloader = RouterReloader(gateway, settings, WeightStore(weights_dir(settings, environ)))
    await gateway.reloader.load()
    if gateway.accounts is not None:
        await gateway.accounts.start()
    gateway.residency.pin(map(ExpertId, settings.residency.pinned))
    await gateway.residency.preload([ExpertId(name) for name in settings.residency.preload])
    gateway.ready = True


def build_app(gateway: Gateway) -> ASGIApp:
    """The ASGI application around a gateway.

    The three endpoints that carry the load are reached by one look-up; they answer every error themselves. What the
    framework's middleware would add to them is a quarter of their time.
    """
    models, health = ModelsEndpoint(gateway), HealthEndpoint(gateway)
    document = msgspec.json.encode(openapi_document())

    async def openapi(_: Request) -> Response:
        return Response(document, media_type="application/json")

    posts: dict[str, ASGIApp] = {
        "/v1/chat/completions": CompletionEndpoint(gateway, "/v1/chat/completions", ChatRequest),
        "/v1/completions": CompletionEndpoint(gateway, "/v1/completions", CompletionRequest),
        "/v1/messages": TranslatedEndpoint(gateway, "/v1/messages", AnthropicDialect()),
        "/v1/responses": TranslatedEndpoint(gateway, "/v1/responses", ResponsesDialect()),
        "/v1/route": RouteEndpoint(gateway, "/v1/route"),
        "/v1/router/reload": ReloadEndpoint(gateway, "/v1/router/reload"),
    }
    others = Starlette(
        routes=[
            *(Route(path, endpoint, methods=["POST"]) for path, endpoint in posts.items()),
            Route("/v1/models", models.list_all, methods=["GET"]),
            Route("/v1/models/{model:path}", models.get, methods=["GET"]),
            Route("/health/liveness", health.liveness, methods=["GET"]),
            Route("/health/readiness", health.readiness, methods=["GET"]),
            Route("/metrics", health.metrics, methods=["GET"]),
            Route("/openapi.json", openapi, methods=["GET"]),
            *retrieval_routes(gateway),
        ],
        exception_handlers={HTTPException: http_error, Exception: _unexpected},
    )

    others.router.redirect_slashes = False  # it would redirect to whatever host the request names

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and (post := posts.get(scope["path"])) is not None:
            await post(scope, receive, send)
        else:
            await others(scope, receive, send)

    return app


def _backend(
    entry: ExpertEntry,
    key: str,
    session: aiohttp.ClientSession,
    store: WeightStore,
    environ: Mapping[str, str],
) -> ExpertBackend:
    spec = entry.spec()
    if isinstance(entry, OpenAiEntry):
        secret = resolve_secret(f"{key}.api_key", entry.api_key, environ) if entry.api_key else None
        return OpenAiHttpBackend(
            spec,
            session,
            entry.base_url,
            headers={"Authorization": f"Bearer {secret}"} if secret else None,
            connect_timeout_s=entry.connect_timeout_s,
            idle_timeout_s=entry.idle_timeout_s,
        )
    if isinstance(entry, CannedEntry):
        return CannedBackend(spec, entry.rules())
    if spec.weights is not None:
        return LlamaCppBackend(spec, session, store.path_of(spec.weights), partial(store.check, spec.weights))
    return EchoBackend(spec)


async def _unexpected(_: Request, error: Exception) -> Response:
    return error_response(error)
