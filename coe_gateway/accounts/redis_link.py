"""The way to Redis: what is asked at once travels together, and a Redis that is away is not waited for twice."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from experts.errors import AccountsUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_log = logging.getLogger(__name__)
_RETRY_S: Final = 0.5
_MOST_TOGETHER: Final = 256
_ABSENT: Final = "Redis, which keeps the limits, does not answer"
Argument = str | int


class LinkDown(AccountsUnavailable):
    """Redis does not answer."""


class _Call:
    """One script to run, and who waits for what it says."""

    __slots__ = ("arguments", "keys", "reply", "script")

    def __init__(self, script: str, keys: Sequence[str], arguments: Iterable[Argument]) -> None:
        self.script = script
        self.keys = keys
        self.arguments = arguments
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def fail(self) -> None:
        if not self.reply.done():
            self.reply.set_exception(LinkDown(_ABSENT))
            self.reply.exception()  # seen, even if nobody waits any more


class RedisLink:
    """One Redis. prefix: what every name begins with. timeout_s: the longest a journey takes, connecting included.

    After a failure nobody is let through for `retry_s`, and then one, to see.
    """

    def __init__(self, url: str, prefix: str, timeout_s: float, *, retry_s: float = _RETRY_S) -> None:
        self._redis = Redis.from_url(url, socket_timeout=None, socket_connect_timeout=None, retry=Retry(NoBackoff(), 0))
        self._prefix = prefix
        self._timeout_s = timeout_s
        self.retry_s = retry_s
        self._closed_until_s = 0.0
        self.up = True
        self._shas: dict[str, str] = {}
        self._waiting: deque[_Call] = deque()
        self._journey: asyncio.Task[None] | None = None

    def named(self, name: str) -> str:
        """A name as it is in Redis."""
        return f"{self._prefix}:{name}"

    async def run(self, script: str, keys: Iterable[str], arguments: Iterable[Argument]) -> Any:  # noqa: ANN401 - a script's
        """Run a script. A caller who is cancelled goes at once; the script may run all the same. Raises: LinkDown."""
        now_s = time.monotonic()
        if not self.up:
            if now_s < self._closed_until_s:
                raise LinkDown(_ABSENT)
            self._closed_until_s = now_s + self.retry_s  # the others wait for what becomes of this one
        call = _Call(script, [self.named(key) for key in keys], arguments)
        self._waiting.append(call)
        if self._journey is None:
            self._journey = asyncio.create_task(self._travel())
        return await call.reply

    async def close(self) -> None:
        """Hang up, once what is under way is over."""
        if self._journey is not None:
            await asyncio.wait({self._journey})
        await self._redis.aclose()

    async def _travel(self) -> None:
        """Take what waits to Redis, journey after journey, until nothing does."""
        try:
            while self._waiting:
                calls = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_TOGETHER))]
                if await self._told(calls):
                    continue
                while self._waiting:
                    self._waiting.popleft().fail()
        finally:
            self._journey = None

    async def _told(self, calls: list[_Call]) -> bool:
        """Run the calls in one journey; False: Redis did not answer, and they know."""
        try:
            replies = await self._in_time(calls)
        except (RedisError, OSError, TimeoutError) as error:
            if self.up:
                _log.warning("Redis does not answer: %r", error)
            self.up = False
            self._closed_until_s = time.monotonic() + self.retry_s
            for call in calls:
                call.fail()
            return False
        if not self.up:
            _log.info("Redis answers again")
            self.up = True
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, Exception):
                _log.error("a script of ours failed in Redis: %r", reply)
                call.fail()
            elif not call.reply.done():
                call.reply.set_result(reply)
        return True

    async def _in_time(self, calls: list[_Call]) -> list[Any]:
        """The replies to all. A time-out that is late itself is the fault of this process: it is given again.

        Raises: TimeoutError, RedisError, OSError.
        """
        loop = asyncio.get_running_loop()
        sent = asyncio.create_task(self._send(calls))
        deadline_s = loop.time() + self._timeout_s
        while True:
            await asyncio.wait({sent}, timeout=deadline_s - loop.time())
            if sent.done():
                return sent.result()
            if loop.time() - deadline_s < self._timeout_s / 10:
                break
            deadline_s = loop.time() + self._timeout_s
        sent.cancel()
        await asyncio.wait({sent}, timeout=self._timeout_s)
        raise TimeoutError(f"nothing within {self._timeout_s:g} s")

    async def _send(self, calls: list[_Call]) -> list[Any]:
        replies = await self._pipeline(calls)
        if any(isinstance(reply, NoScriptError) for reply in replies):  # it was started anew; those ran not at all
            self._shas.clear()
            missing = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            for i, reply in zip(missing, await self._pipeline([calls[i] for i in missing]), strict=True):
                replies[i] = reply
        return replies

    async def _pipeline(self, calls: list[_Call]) -> list[Any]:
        for script in {call.script for call in calls} - self._shas.keys():
            self._shas[script] = await self._redis.script_load(script)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.evalsha(self._shas[call.script], len(call.keys), *call.keys, *call.arguments)
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
            return replies
