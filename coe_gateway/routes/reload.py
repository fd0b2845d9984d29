"""POST /v1/router/reload: read the router's artifact again."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import msgspec

from coe_gateway.routes.endpoint import Endpoint
from experts.errors import NotAllowed, NotReady, Unauthorized

if TYPE_CHECKING:
    from coe_gateway.exchange import Exchange
    from coe_gateway.interruption import Interruptible


class ReloadEndpoint(Endpoint):
    """An ASGI endpoint for whoever runs the gateway.

    That is an admin among accounts, any owner of a plain key, or, where no key is asked for, this machine.
    """

    async def answer(self, exchange: Exchange, interruptible: Interruptible, raw: bytes) -> None:  # noqa: ARG002 - a reload that has begun is carried through
        """Reload and tell. Raises: CoeError: why it cannot be; the router stays as it was."""
        if exchange.account is not None and not exchange.account.key.admin:
            raise NotAllowed("reloading takes an admin key")
        if exchange.account is None and not self._gateway.key_digests and not _local(exchange.client):
            raise Unauthorized("a gateway without API keys reloads for this machine only")
        if self._gateway.reloader is None:
            raise NotReady("the gateway is still loading")
        await exchange.json(msgspec.json.encode(await self._gateway.reloader.reload()))


def _local(client: str) -> bool:
    try:
        return ip_address(client).is_loopback
    except ValueError:
        return False
