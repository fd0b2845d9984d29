"""Ending a request from outside: its client left, or the gateway has no more time for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from experts.errors import ClientLeft

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import Receive

    from experts.errors import CoeError


class Interruptible:
    """The body of `with` can be ended from outside, and then raises the error it was ended with.

    receive: the ASGI channel of a request whose body has been read; a disconnect on it ends the body with ClientLeft.
    """

    __slots__ = ("_error", "_receive", "_task", "_watch")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._error: CoeError | None = None
        self._task: asyncio.Task[object] | None = None
        self._watch: asyncio.Task[None] | None = None

    def interrupt(self, error: CoeError) -> None:
        """End the body with `error`; the first one counts."""
        if self._error is None and self._task is not None:
            self._error = error
            self._task.cancel()

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._watch = asyncio.create_task(self._watch_client())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.cancel()
        task, self._task = self._task, None
        if self._error is None or task is None:
            return
        if task.uncancel() == 0 and (error is None or isinstance(error, asyncio.CancelledError)):
            raise self._error from None

    async def _watch_client(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.interrupt(ClientLeft("the client hung up"))
