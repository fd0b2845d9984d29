"""How many requests are served at once, how many may wait, and who gets 429 at once."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from experts.errors import QueueFull, ShuttingDown

if TYPE_CHECKING:
    from types import TracebackType


class Admission:
    """A bounded number of places and a bounded queue for them, first come first served.

    `async with admission:` holds one place. Once `drain` is called nobody new is let in.
    """

    def __init__(self, max_in_flight: int, max_queued: int) -> None:
        self._max_in_flight = max_in_flight
        self._max_queued = max_queued
        self._queue: deque[asyncio.Future[None]] = deque()
        self.in_flight = 0
        self.draining = False

    @property
    def queued(self) -> int:
        """How many wait for a place."""
        return len(self._queue)

    def drain(self) -> None:
        """Refuse newcomers, and those who wait, from now on."""
        self.draining = True
        for waiter in self._queue:
            if not waiter.done():
                waiter.set_exception(ShuttingDown("the gateway is shutting down"))
        self._queue.clear()

    async def __aenter__(self) -> None:
        """Take a place. Raises: QueueFull, ShuttingDown."""
        if self.draining:
            raise ShuttingDown("the gateway is shutting down")
        if self.in_flight < self._max_in_flight:
            self.in_flight += 1
            return
        if len(self._queue) >= self._max_queued:
            raise QueueFull(f"{self.in_flight} requests are being served and {len(self._queue)} wait; try again")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._leave()  # the place was handed over in the very turn in which the waiter was cancelled
            elif waiter in self._queue:
                self._queue.remove(waiter)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        """Hand the place to the longest waiter, or free it."""
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.in_flight -= 1
