"""GET /v1/models: every name that `model` may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from coe_gateway.errors import error_response
from coe_gateway.wire import ModelCard, ModelList
from experts.errors import CoeError, UnknownExpert
from memory_tiers.types import ResidentState

if TYPE_CHECKING:
    from starlette.requests import Request

    from coe_gateway.accounts.keys import Account
    from coe_gateway.gateway import Gateway


class ModelsEndpoint:
    """Lists the experts and the router's virtual names."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def list_all(self, request: Request) -> Response:
        """All of them."""
        try:
            account = self._gateway.authorize(request.headers.get("authorization", ""))
        except CoeError as error:
            return error_response(error)
        return _json(ModelList(self._cards(account)))

    async def get(self, request: Request) -> Response:
        """One of them."""
        name = request.path_params["model"]
        try:
            account = self._gateway.authorize(request.headers.get("authorization", ""))
            for card in self._cards(account):
                if card.id == name:
                    return _json(card)
            raise UnknownExpert(name, self._gateway.model_names())
        except CoeError as error:
            return error_response(error)

    def _cards(self, account: Account | None) -> list[ModelCard]:
        ready = {r.expert_id for r in self._gateway.residency.residents() if r.state is ResidentState.READY}
        cards = []
        for name in self._gateway.model_names():
            if account is not None and not account.may_see(name, self._gateway.backends):
                continue
            backend = self._gateway.backends.get(name)  # type: ignore[call-overload]  # an ExpertId is a str
            if backend is None:
                cards.append(ModelCard(name, description="routed: the gateway chooses the expert"))
            else:
                spec = backend.spec
                features = sorted(spec.features)
                cards.append(
                    ModelCard(name, description=spec.description, features=features, resident=spec.id in ready)
                )
        return cards


def _json(value: ModelCard | ModelList) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
