"""Ending a request from outside: its client left, its time is up, or the gateway shuts down."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

from experts.errors import ClientLeft

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import Receive

    from experts.errors import CoeError

_UNWATCHED_S: Final = 0.05


class Interruptible:
    """The body of `with` can be ended from outside, and then raises the error it was ended with.

    receive: the ASGI channel of a request whose body has been read; a disconnect on it ends the body with ClientLeft.
    Watching it takes a task of its own, which would cost a quick answer a tenth of its time: so it starts only when
    the body has lasted 50 ms.
    """

    __slots__ = ("_deadline", "_error", "_receive", "_task", "_watch", "_watch_timer")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._error: CoeError | None = None
        self._task: asyncio.Task[object] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._watch_timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def interrupt(self, error: CoeError) -> None:
        """End the body with `error`; the first one counts."""
        if self._error is None and self._task is not None:
            self._error = error
            self._task.cancel()

    def set_deadline(self, timeout_s: float, error: CoeError) -> None:
        """End the body with `error` in `timeout_s`, unless the deadline is cleared or set anew."""
        self.clear_deadline()
        self._deadline = asyncio.get_running_loop().call_later(timeout_s, self.interrupt, error)

    def clear_deadline(self) -> None:
        """Let the body take its time."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._watch_timer = asyncio.get_running_loop().call_later(_UNWATCHED_S, self._start_watching)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear_deadline()
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        task, self._task = self._task, None
        if self._error is None or task is None:
            return
        if task.uncancel() == 0 and (error is None or isinstance(error, asyncio.CancelledError)):
            raise self._error from None

    def _start_watching(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._watch_client())

    async def _watch_client(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.interrupt(ClientLeft("the client hung up"))
