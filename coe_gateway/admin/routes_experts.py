"""Experts, their residency, the router and draining over the admin port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coe_gateway.admin.routes_accounts import as_json
from coe_gateway.admin.wire import ExpertCard
from experts.errors import Conflict, NotFound, NotReady
from experts.types import ExpertId

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from coe_gateway.gateway import Gateway


class ExpertRoutes:
    """What can be done about experts. drain: takes the gateway down as SIGTERM does."""

    def __init__(self, gateway: Gateway, drain: Callable[[], None]) -> None:
        self._gateway = gateway
        self._drain = drain

    def routes(self) -> dict[tuple[str, str], Callable[[Request, bytes], Awaitable[Response]]]:
        """By method and path."""
        return {
            ("GET", "/admin/experts"): self.list_all,
            ("POST", "/admin/experts/{id:path}/pin"): self.pin,
            ("POST", "/admin/experts/{id:path}/unpin"): self.unpin,
            ("POST", "/admin/experts/{id:path}/evict"): self.evict,
            ("POST", "/admin/experts/{id:path}/load"): self.load,
            ("POST", "/admin/router/reload"): self.reload,
            ("POST", "/admin/drain"): self.drain,
        }

    async def list_all(self, _: Request, __: bytes) -> Response:
        """Every expert, and the bytes that are booked."""
        residency = self._gateway.residency
        return as_json(
            {
                "data": [self._card(ExpertId(name)) for name in self._gateway.backends],
                "device_used_bytes": residency.used_bytes,
                "device_budget_bytes": residency.budget_bytes,
                "host_used_bytes": residency.host_used_bytes,
                "host_budget_bytes": residency.host_budget_bytes,
                "waiting": residency.waiting,
            }
        )

    async def pin(self, request: Request, _: bytes) -> Response:
        """Never evict it once it is loaded."""
        expert_id = self._expert(request)
        self._gateway.residency.pin([expert_id])
        return as_json(self._card(expert_id))

    async def unpin(self, request: Request, _: bytes) -> Response:
        """Let it be evicted again."""
        expert_id = self._expert(request)
        self._gateway.residency.unpin([expert_id])
        return as_json(self._card(expert_id))

    async def evict(self, request: Request, _: bytes) -> Response:
        """Take it off the device if it is idle."""
        expert_id = self._expert(request)
        card = self._card(expert_id)
        if card.leases or card.state == "loading":
            raise Conflict(f"expert {expert_id!r} is {card.state} with {card.leases} requests; only an idle one goes")
        self._gateway.residency.evict(expert_id)
        return as_json(self._card(expert_id))

    async def load(self, request: Request, _: bytes) -> Response:
        """Have it on the device, or as near as there is room for."""
        expert_id = self._expert(request)
        await self._gateway.residency.preload([expert_id])
        return as_json(self._card(expert_id))

    async def reload(self, _: Request, __: bytes) -> Response:
        """Read the router's artifact again; if it cannot be used, nothing changes."""
        if self._gateway.reloader is None:
            raise NotReady("the gateway is still loading")
        return as_json(await self._gateway.reloader.reload())

    async def drain(self, _: Request, __: bytes) -> Response:
        """Take no new work, finish what runs, and end."""
        self._drain()
        return as_json({"status": "draining", "running": len(self._gateway.active)}, 202)

    def _expert(self, request: Request) -> ExpertId:
        name = ExpertId(request.path_params["id"])
        if name not in self._gateway.backends:
            raise NotFound(f"there is no expert {name!r}; there are: {', '.join(self._gateway.backends)}", "id")
        return name

    def _card(self, expert_id: ExpertId) -> ExpertCard:
        residency, spec = self._gateway.residency, self._gateway.backends[expert_id].spec
        stay = next((resident for resident in residency.residents() if resident.expert_id == expert_id), None)
        return ExpertCard(
            id=expert_id,
            backend=spec.backend,
            description=spec.description,
            state="away" if stay is None else str(stay.state),
            leases=0 if stay is None else stay.leases,
            pinned=expert_id in residency.pinned,
            device_bytes=spec.device_bytes,
            input_price=spec.input_price,
            output_price=spec.output_price,
        )
