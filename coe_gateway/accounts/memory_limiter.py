"""Limits of one gateway, in its own memory: microseconds, and exact because nobody else counts."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from coe_gateway.accounts.limiter import WINDOWS, Shortfall, refusal
from coe_gateway.accounts.types import Unit, Window
from coe_gateway.accounts.windows import window_end

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coe_gateway.accounts.types import Claim, Total

_REQUESTS, _TOKENS, _USD = Unit.REQUESTS, Unit.TOKENS, Unit.USD
MOST_WAITING: Final = 4096


class _Count:
    """One subject's window: what is spent and what is held, by Unit."""

    __slots__ = ("end_s", "reserved", "spent")

    def __init__(self, end_s: float) -> None:
        self.end_s = end_s
        self.spent = [0, 0, 0]
        self.reserved = [0, 0, 0]


class _Waiter:
    """A claim in its turn."""

    __slots__ = ("claim", "granted", "short")

    def __init__(self, claim: Claim, short: Shortfall) -> None:
        self.claim = claim
        self.short = short
        self.granted: asyncio.Future[float] = asyncio.get_running_loop().create_future()


class MemoryLimiter:
    """One owner of every count. Every subject is counted in every window, limited or not, so that a new limit holds.

    now: Unix seconds. wait_s: the longest a claim waits for what others hold.
    """

    def __init__(self, wait_s: float, now: Callable[[], float] = time.time) -> None:
        self._wait_s = wait_s
        self._now = now
        self._counts: dict[str, dict[Window, _Count]] = {}
        self._held: dict[str, tuple[Claim, list[_Count]]] = {}
        self._queues: dict[str, deque[_Waiter]] = {}
        self._waiting = 0

    def seed(self, totals: Sequence[Total]) -> None:
        """Take over what was spent before this limiter was made."""
        now_s = self._now()
        for total in totals:
            count = self._windows(total.subject, now_s)[total.window]
            count.spent[_TOKENS] += total.tokens
            count.spent[_USD] += total.nano_usd

    async def reserve(self, claim: Claim) -> float:
        """Hold a claim's amounts; gives the time at which they were granted.

        Raises: QuotaExhausted, RateLimited: by name of the limit.
        """
        now_s = self._now()
        short = self._shortfall(claim, now_s)
        if short is None and not (self._queues and any(s.id in self._queues for s in claim.subjects if s.limits)):
            return self._grant(claim, now_s)
        if short is None:
            short = self._behind(claim)
        if short.final or self._waiting >= MOST_WAITING:
            raise refusal(short, now_s)
        return await self._turn(_Waiter(claim, short))

    def settle(self, claim_id: str, tokens: int, nano_usd: int) -> None:
        """Count what a claim used and give back the rest."""
        claim, counts = self._held.pop(claim_id)
        _, asked_tokens, asked_usd = claim.amounts
        for count in counts:
            count.reserved[_TOKENS] -= asked_tokens
            count.reserved[_USD] -= asked_usd
            count.spent[_TOKENS] += tokens
            count.spent[_USD] += nano_usd
        if self._queues:
            self._wake(claim)

    def settled_before(self, claim: Claim, at_s: float) -> None:
        """Nothing: the seeds count it."""

    def release(self, claim_id: str) -> None:
        """Give back all of a claim."""
        self.settle(claim_id, 0, 0)

    async def close(self) -> None:
        """Nothing is under way that its requests do not end themselves."""

    def _windows(self, subject_id: str, now_s: float) -> dict[Window, _Count]:
        """A subject's counts, those whose time is over begun anew."""
        counts = self._counts.get(subject_id)
        if counts is None:
            counts = self._counts[subject_id] = {window: _Count(_end(window, now_s)) for window in WINDOWS}
        for window, count in counts.items():
            if now_s >= count.end_s:
                counts[window] = _Count(_end(window, now_s))
        return counts

    def _shortfall(self, claim: Claim, now_s: float) -> Shortfall | None:
        """What keeps a claim out: preferably what does so for good."""
        found = None
        for subject in claim.subjects:
            if not subject.limits:
                continue
            counts = self._windows(subject.id, now_s)
            for limit in subject.limits:
                unit, count = limit.unit, counts[limit.window]
                asked = claim.amounts[unit]
                spent, reserved = count.spent[unit], count.reserved[unit]
                if spent + reserved + asked > limit.amount:
                    short = Shortfall(subject, limit, spent, reserved, asked)
                    if short.final:
                        return short
                    found = found or short
        return found

    def _behind(self, claim: Claim) -> Shortfall:
        """What a claim waits behind that would fit by itself, but for those who came before it."""
        subject = next(s for s in claim.subjects if s.limits and s.id in self._queues)
        limit = self._queues[subject.id][0].short.limit
        count = self._windows(subject.id, self._now())[limit.window]
        return Shortfall(subject, limit, count.spent[limit.unit], count.reserved[limit.unit], claim.amounts[limit.unit])

    def _grant(self, claim: Claim, now_s: float) -> float:
        held = []
        _, tokens, usd = claim.amounts
        for subject in claim.subjects:
            for count in self._windows(subject.id, now_s).values():
                count.spent[_REQUESTS] += 1
                count.reserved[_TOKENS] += tokens
                count.reserved[_USD] += usd
                held.append(count)
        self._held[claim.id] = (claim, held)
        return now_s

    async def _turn(self, waiter: _Waiter) -> float:
        """Wait until others have settled, or the window is over. Raises: QuotaExhausted, RateLimited."""
        self._enqueue(waiter)
        self._waiting += 1
        give_up_s = self._now() + self._wait_s
        try:
            while not waiter.granted.done():
                end_s = window_end(waiter.short.limit.window, self._now()) or give_up_s
                await asyncio.wait([waiter.granted], timeout=max(min(end_s, give_up_s) - self._now(), 0.0))
                if not waiter.granted.done():
                    self._look_again(waiter, give_up_s)
            return waiter.granted.result()
        except BaseException:
            if waiter.granted.done() and not waiter.granted.cancelled() and waiter.granted.exception() is None:
                self.release(waiter.claim.id)  # granted in the very turn in which its request was given up
            raise
        finally:
            self._waiting -= 1
            self._withdraw(waiter)

    def _look_again(self, waiter: _Waiter, give_up_s: float) -> None:
        """Nobody settled: the window may be over, or the time to wait is. Raises: QuotaExhausted, RateLimited."""
        if self._now() >= give_up_s:
            raise refusal(waiter.short, self._now())
        self._serve(waiter.short.subject.id)

    def _enqueue(self, waiter: _Waiter) -> None:
        self._queues.setdefault(waiter.short.subject.id, deque()).append(waiter)

    def _withdraw(self, waiter: _Waiter) -> None:
        """Leave the queue; whoever stood behind may fit now."""
        subject_id = waiter.short.subject.id
        queue = self._queues.get(subject_id)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            self._serve(subject_id)

    def _wake(self, claim: Claim) -> None:
        for subject in claim.subjects:
            if subject.id in self._queues:
                self._serve(subject.id)

    def _serve(self, subject_id: str) -> None:
        """Grant the claims of a queue, first come first served, until one has to go on waiting."""
        queue = self._queues.get(subject_id)
        now_s = self._now()
        while queue:
            waiter = queue[0]
            short = self._shortfall(waiter.claim, now_s)
            if short is not None and not short.final and short.subject.id == subject_id:
                waiter.short = short
                break
            queue.popleft()
            if waiter.granted.done():
                continue
            if short is None:
                waiter.granted.set_result(self._grant(waiter.claim, now_s))
            elif short.final:
                waiter.granted.set_exception(refusal(short, now_s))
            else:
                waiter.short = short
                self._enqueue(waiter)
        if not queue:
            self._queues.pop(subject_id, None)


def _end(window: Window, now_s: float) -> float:
    """When a window is over: the next one's first second."""
    end = window_end(window, now_s)
    return float("inf") if end is None else end
