"""A new router in place of the running one: built and tried first, so a bad artifact changes nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from coe_gateway.routing import build_router
from coe_gateway.wire import Reloaded
from experts.errors import InvalidRequest
from routers.ask import ask_from_prompt

if TYPE_CHECKING:
    from coe_gateway.gateway import Gateway
    from coe_gateway.settings import Settings
    from experts.types import ExpertId
    from experts.weights import WeightStore
    from routers.two_step import TwoStepRouter

_CANARY = "Is everything in order?"
_log = logging.getLogger(__name__)


class RouterReloader:
    """Builds the gateway's router, at start and whenever asked to. One reload at a time; the others wait.

    Decisions under way finish on the router they began with, which is closed afterwards.
    """

    def __init__(self, gateway: Gateway, settings: Settings, store: WeightStore) -> None:
        self._gateway = gateway
        self._settings = settings
        self._store = store
        self._lock = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._current: TwoStepRouter | None = None

    async def load(self) -> None:
        """Build the first router. Raises: CoeError: it cannot be."""
        self._current = self._gateway.router = await asyncio.to_thread(self._build)

    async def reload(self) -> Reloaded:
        """Read the artifact again and swap. Raises: CoeError: the new router cannot be; the old one stays."""
        async with self._lock:
            new = await asyncio.to_thread(self._build)
            if new is None:
                raise InvalidRequest("this gateway has no router to reload")
            try:
                ranked = [(await new.route(ask_from_prompt(_CANARY), profile=name)).experts for name in new.profiles()]
            except BaseException:
                new.close()
                raise
            old, self._current = self._current, new
            self._gateway.router = new
        if old is not None:
            retiring = asyncio.create_task(old.retire())
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
        _log.info("router reloaded: %s", ", ".join(new.profiles()))
        return Reloaded(tuple(new.profiles()), tuple(score.expert for score in ranked[0]))

    def _build(self) -> TwoStepRouter | None:
        return build_router(self._settings, self._store, self._resident)

    def _resident(self, expert: ExpertId) -> bool:
        return any(resident.expert_id == expert for resident in self._gateway.residency.residents())
