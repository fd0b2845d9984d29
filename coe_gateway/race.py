"""Several experts asked at once: whose answer begins first is heard, the others are let go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from experts.errors import CoeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.types import Message, Send

    from coe_gateway.exchange import Exchange
    from experts.types import ExpertId


class Race:
    """One request's experts, each on a copy of the exchange. The first that sends anything wins.

    attempt: lets one expert answer. goes_on: whether another expert may do better than one with this error. failed: is
    told of each that fails while another is still asked.
    """

    def __init__(
        self,
        exchange: Exchange,
        attempt: Callable[[Exchange, ExpertId], Awaitable[None]],
        goes_on: Callable[[CoeError], bool],
        failed: Callable[[Exchange, CoeError], None],
    ) -> None:
        self._exchange = exchange
        self._attempt = attempt
        self._goes_on = goes_on
        self._failed = failed
        self._running: dict[asyncio.Task[None], Exchange] = {}
        self._winner: asyncio.Task[None] | None = None
        self._error: CoeError | None = None

    async def run(self, experts: Sequence[ExpertId]) -> None:
        """Ask them all. Cancellation lets every one of them go, leases included, before it is passed on.

        Raises: CoeError: the winner's once it has begun; else the first that no other expert can mend, or the last.
        """
        async with asyncio.TaskGroup() as group:
            for expert_id in experts:
                own = self._exchange.sending_by(self._gate)
                self._running[group.create_task(self._ask(own, expert_id))] = own
        if self._error is not None:
            raise self._error

    async def _ask(self, own: Exchange, expert_id: ExpertId) -> None:
        task = asyncio.current_task()
        try:
            await self._attempt(own, expert_id)
        except CoeError as error:
            self._ended_with(error, own)
        finally:
            if task is self._winner:
                self._exchange.become(own)
            if task is not None:
                self._running.pop(task, None)

    def _ended_with(self, error: CoeError, own: Exchange) -> None:
        """Decide what one expert's failure means: nothing yet, while others are asked and could do better."""
        task = asyncio.current_task()
        if self._error is not None or self._winner not in {None, task}:
            return  # it was let go, and this is how it took it
        others = [other for other in self._running.values() if other is not own]
        if task is not self._winner and others and self._goes_on(error):
            self._failed(own, error)
            for other in others:
                other.fallback_reason = own.fallback_reason
            return
        self._error = error
        self._exchange.become(own)
        self._let_go_but(task)

    def _gate(self, send: Send) -> Send:
        """Send for one expert: its first message wins, in the same step of the loop in which the others are let go."""

        async def sent(message: Message) -> None:
            task = asyncio.current_task()
            if self._winner is None:
                self._winner = task
                self._let_go_but(task)
            elif task is not self._winner:
                raise asyncio.CancelledError
            await send(message)

        return sent

    def _let_go_but(self, task: asyncio.Task[None] | None) -> None:
        for other in self._running:
            if other is not task:
                other.cancel()
