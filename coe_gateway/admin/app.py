"""The ASGI application of the admin port: one door for every route, so that none is without a lock."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from coe_gateway.admin.routes_accounts import AccountRoutes
from coe_gateway.admin.routes_experts import ExpertRoutes
from coe_gateway.errors import error_response, http_error
from experts.errors import BodyTooLarge, CoeError, NotAllowed, NotReady

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from coe_gateway.gateway import Gateway

_log = logging.getLogger(__name__)
_MAX_BODY_BYTES: Final = 1024**2


def build_admin_app(gateway: Gateway, drain: Callable[[], None]) -> Starlette:
    """The application. drain: takes the gateway down as SIGTERM does."""
    found = ExpertRoutes(gateway, drain).routes()
    if gateway.accounts is not None:
        found |= AccountRoutes(gateway.accounts).routes()
    routes = [
        Route(path, _guarded(gateway, answer), methods=[method]) for (method, path), answer in sorted(found.items())
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: http_error})
    app.router.redirect_slashes = False
    return app


def _guarded(
    gateway: Gateway, answer: Callable[[Request, bytes], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """The route behind the lock: an admin's key, or where there are no accounts one of the gateway's."""

    async def endpoint(request: Request) -> Response:
        try:
            _authorize(gateway, request)
            reply = await answer(request, await _body(request))
        except CoeError as error:
            return error_response(error)
        except Exception as error:  # noqa: BLE001 - top of the request: the client gets an answer, the log the trace
            _log.exception("admin %s %s", request.method, request.url.path)
            return error_response(error)
        if request.method != "GET":
            _log.info("admin %s %s: %d", request.method, request.url.path, reply.status_code)
        return reply

    return endpoint


def _authorize(gateway: Gateway, request: Request) -> None:
    """Raises: Unauthorized, NotAllowed, NotReady."""
    account = gateway.authorize(request.headers.get("authorization", ""))
    if gateway.accounts is None:
        if not gateway.key_digests:
            raise NotAllowed("the admin port needs `accounts`, or `gateway.api_keys`")
    elif account is None or not account.key.admin:
        raise NotAllowed("this takes an admin key: `coe keys create NAME --admin`")
    if not gateway.ready:
        raise NotReady("the gateway is still loading")


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _MAX_BODY_BYTES:
            raise BodyTooLarge(_MAX_BODY_BYTES)
        parts.append(part)
    return b"".join(parts)
