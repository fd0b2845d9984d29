"""Limits that several gateways share, in Redis.

Every step is one script, so no two gateways see a half of it. What a gateway holds is leased: one that dies frees it
within `lease_s`. A meter that Redis does not know is seeded from the book. Redis away: what then, is a setting; what
ends meanwhile is counted when it is back, once, however often it is sent.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from coe_gateway.accounts import redis_scripts
from coe_gateway.accounts.limiter import Shortfall, refusal
from coe_gateway.accounts.redis_link import LinkDown
from coe_gateway.accounts.types import Unit, Window
from coe_gateway.accounts.windows import window_end, window_start
from experts.errors import AccountsUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from coe_gateway.accounts.redis_link import Argument, RedisLink
    from coe_gateway.accounts.settings import StoreDownSettings
    from coe_gateway.accounts.types import Claim, Limit, Subject, Total

_log = logging.getLogger(__name__)
_FIRST_LOOK_S: Final = 0.005
_SLOWEST_LOOK_S: Final = 0.1
_MEMORY_S: Final = 3600  # how long Redis remembers what is settled, and meters whose window is over
_MOST_PENDING: Final = 100_000
_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class _Meter:
    """One limit of one subject in one window, and what a claim asks of it."""

    name: str
    subject: Subject
    limit: Limit
    ask: int
    ttl_s: int

    @property
    def seeded(self) -> bool:
        """Whether the book knows what it was before."""
        return self.limit.window is not Window.MINUTE

    def arguments(self) -> tuple[int, int, int, int, int]:
        """As the script takes them."""
        counted = self.limit.unit is Unit.REQUESTS
        return self.limit.amount, self.ask, self.ttl_s, int(counted), int(self.seeded)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A claim to be settled in Redis. epoch: of the Redis that granted it."""

    claim_id: str
    epoch: str
    meters: tuple[_Meter, ...]
    spent: tuple[int, int, int]


class RedisLimiter:
    """Claims of one gateway among several. totals: what a subject has spent, by the book. now: Unix seconds."""

    def __init__(
        self,
        link: RedisLink,
        totals: Callable[[str], Awaitable[Sequence[Total]]],
        if_down: StoreDownSettings,
        *,
        wait_s: float,
        lease_s: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._link = link
        self._totals = totals
        self._if_down = if_down
        self._wait_s = wait_s
        self._lease_s = lease_s
        self._now = now
        self._epoch = ""
        self._held: dict[str, tuple[tuple[_Meter, ...], str]] = {}
        self._pending: dict[str, _Ended] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pending(self) -> int:
        """Ends of claims that Redis does not know of yet."""
        return len(self._pending)

    def seed(self, totals: Sequence[Total]) -> None:
        """Nothing: others have counted since, and what Redis lost is read from the book when it is missed."""

    async def reserve(self, claim: Claim) -> float:
        """Hold a claim's amounts; gives the time at which they were granted.

        Raises: QuotaExhausted, RateLimited: by name of the limit; AccountsUnavailable: Redis or the book is away.
        """
        self._start()
        give_up_s = self._now() + self._wait_s
        pause_s = _FIRST_LOOK_S
        while True:
            at_s = self._now()
            meters = self._meters(claim, at_s)
            short = await self._attempt(claim, meters)
            if short is None:
                return at_s
            if short.final or self._now() >= give_up_s:
                raise refusal(short, self._now())
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - so that waiters do not march in step
            pause_s = min(pause_s * 1.5, _SLOWEST_LOOK_S)

    def settle(self, claim_id: str, tokens: int, nano_usd: int) -> None:
        """Count what a claim used and give back the rest; Redis hears of it soon."""
        meters, epoch = self._held.pop(claim_id)
        if meters:
            self._end(_Ended(claim_id, epoch, meters, (0, tokens, nano_usd)))

    def settled_before(self, claim: Claim, at_s: float) -> None:
        """Count what an earlier process settled and may not have had the time to tell."""
        self._start()
        self._end(_Ended(claim.id, "?", self._meters(claim, at_s), claim.amounts))

    def release(self, claim_id: str) -> None:
        """Give back all of a claim."""
        self.settle(claim_id, 0, 0)

    async def close(self) -> None:
        """Tell Redis what ended, if it is there."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._tell()
        except LinkDown as error:
            _log.warning("%d claims run out by themselves: %s", len(self._pending), error)
        await self._link.close()

    def _start(self) -> None:
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._keep_telling()), asyncio.create_task(self._keep_renewing())]

    def _meters(self, claim: Claim, at_s: float) -> tuple[_Meter, ...]:
        found = []
        for subject in claim.subjects:
            for limit in subject.limits:
                end_s = window_end(limit.window, at_s)
                name = f"m:{subject.id}:{limit.unit.name}:{limit.window}:{window_start(limit.window, at_s)}"
                ttl_s = 0 if end_s is None else int(end_s - at_s) + _MEMORY_S
                found.append(_Meter(name, subject, limit, claim.amounts[limit.unit], ttl_s))
        return tuple(found)

    async def _attempt(self, claim: Claim, meters: tuple[_Meter, ...]) -> Shortfall | None:
        """Try to hold a claim; None: it is held. Raises: AccountsUnavailable."""
        if not meters:
            self._held[claim.id] = ((), "")
            return None
        try:
            short = await self._reserve(claim, meters)
        except BaseException as error:
            # It may have been granted with nobody left to hear of it, or be so yet: this sees to both.
            self._end(_Ended(claim.id, self._epoch, meters, (0, 0, 0)))
            if not isinstance(error, LinkDown | AccountsUnavailable) or not self._goes_on_without(meters):
                raise
            self._pending.pop(claim.id, None)
            short = None
        if short is None:
            self._held[claim.id] = (meters, self._epoch)
        return short

    def _goes_on_without(self, meters: tuple[_Meter, ...]) -> bool:
        """Whether a claim is granted though Redis is away."""
        bounded = any(meter.limit.is_budget for meter in meters)
        return (self._if_down.budgets if bounded else self._if_down.rates) == "allow"

    async def _reserve(self, claim: Claim, meters: tuple[_Meter, ...]) -> Shortfall | None:
        """Ask Redis, seeding what it does not know. Raises: LinkDown, AccountsUnavailable."""
        keys = ["leases", "epoch", f"r:{claim.id}", f"s:{claim.id}", *(meter.name for meter in meters)]
        arguments: list[Argument] = [claim.id, round(self._lease_s * 1000), token_hex(8), self._link.named("")]
        for meter in meters:
            arguments += meter.arguments()
        while True:
            said, index, spent, reserved, epoch = await self._link.run(redis_scripts.RESERVE, keys, arguments)
            self._epoch = epoch.decode()
            if said == b"ok":
                return None
            meter = meters[int(index)]
            if said != b"seed":
                return Shortfall(meter.subject, meter.limit, int(spent), int(reserved), meter.ask)
            await self._seed(meter.subject, meters)

    async def _seed(self, subject: Subject, meters: tuple[_Meter, ...]) -> None:
        totals = {total.window: (0, total.tokens, total.nano_usd) for total in await self._totals(subject.id)}
        for meter in meters:
            if meter.subject is subject and meter.seeded:
                spent = totals.get(meter.limit.window, (0, 0, 0))[meter.limit.unit]
                await self._link.run(redis_scripts.SEED, [meter.name], [spent, meter.ttl_s])

    def _end(self, ended: _Ended) -> None:
        if len(self._pending) >= _MOST_PENDING:
            self._pending.pop(next(iter(self._pending)))
            _log.error("Redis has been away for too long: it will count a claim too little")
        self._pending[ended.claim_id] = ended
        self._wake.set()

    async def _keep_telling(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._tell()
            except LinkDown:
                await asyncio.sleep(self._link.retry_s)
                self._wake.set()

    async def _tell(self) -> None:
        """Tell Redis what ended. Raises: LinkDown: the rest is told later."""
        while self._pending:
            batch = list(self._pending.values())[:_BATCH]
            told = await asyncio.gather(*(self._tell_one(ended) for ended in batch), return_exceptions=True)
            for ended, said in zip(batch, told, strict=True):
                if isinstance(said, BaseException):
                    raise said
                if self._pending.get(ended.claim_id) is ended:
                    del self._pending[ended.claim_id]

    async def _tell_one(self, ended: _Ended) -> None:
        keys = ["leases", "epoch", *(f"{kind}:{ended.claim_id}" for kind in "rsx"), *(m.name for m in ended.meters)]
        spent = [0 if m.limit.unit is Unit.REQUESTS else ended.spent[m.limit.unit] for m in ended.meters]
        await self._link.run(redis_scripts.SETTLE, keys, [ended.claim_id, ended.epoch, _MEMORY_S, *spent])

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            leased = [claim_id for claim_id, (meters, _) in self._held.items() if meters]
            try:
                if leased:
                    await self._link.run(redis_scripts.RENEW, ["leases"], [round(self._lease_s * 1000), *leased])
            except LinkDown as error:
                _log.debug("leases are renewed later: %s", error)
