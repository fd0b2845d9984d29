"""The load generator: closed loop (each connection sends when its answer is in) and open loop (sends by the clock).

Bounded in count and in time; loopback only (see `Target`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import uvloop

from eval.serving.loops import ClosedRun, OpenRun
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from eval.serving.tally import LoadResult
    from eval.serving.wire_client import Target

MAX_REQUESTS: Final = 5_000_000
MAX_DURATION_S: Final = 600.0
GRACE_S: Final = 2.0  # past the last time-out, for the last sweep


@dataclass(frozen=True, slots=True)
class Bound:
    """Where a phase ends: whichever comes first. Raises: ConfigError: beyond what this machine should be asked."""

    requests: int = MAX_REQUESTS
    duration_s: float = MAX_DURATION_S

    def __post_init__(self) -> None:
        if not 0 <= self.requests <= MAX_REQUESTS:
            raise ConfigError("requests", self.requests, f"expected 0 to {MAX_REQUESTS}")
        if not 0 <= self.duration_s <= MAX_DURATION_S:
            raise ConfigError("duration_s", self.duration_s, f"expected 0 to {MAX_DURATION_S}")


@dataclass(frozen=True, slots=True)
class ClosedLoad:
    """`connections` clients, each sending its next request when the last is answered; warm-up is not measured."""

    connections: int
    measure: Bound
    warmup: Bound = field(default_factory=lambda: Bound(requests=0))
    stream: bool = False
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """Arrivals at `rate_rps` whatever the answers do, over at most `connections`; latency from the intended send.

    arrivals: `poisson` (seeded) or `fixed` gaps. The first warmup_s are not measured.
    """

    rate_rps: float
    duration_s: float
    warmup_s: float = 0.0
    connections: int = 256
    arrivals: Literal["poisson", "fixed"] = "poisson"
    seed: int = 0
    stream: bool = False
    timeout_s: float = 30.0

    def schedule_s(self) -> npt.NDArray[np.float64]:
        """Give the intended sends as offsets in seconds from the start, ascending, all below warm-up + duration."""
        end_s = Bound(duration_s=self.warmup_s + self.duration_s).duration_s
        count = Bound(requests=int(self.rate_rps * end_s)).requests
        if self.arrivals == "fixed":
            return np.arange(count) / self.rate_rps
        gaps_s = np.random.default_rng(self.seed).exponential(1 / self.rate_rps, size=count + 6 * int(count**0.5) + 20)
        offsets_s = np.cumsum(gaps_s)
        return offsets_s[offsets_s < end_s]


async def run_closed(target: Target, bodies: bytes | Callable[[int], bytes], load: ClosedLoad) -> LoadResult:
    """Drive `target` in a closed loop. bodies: one JSON body for all, or the body of the i-th request."""
    run = ClosedRun(target, _framed(target, bodies), load)
    run.start()
    return await _finish(run, load.warmup.duration_s + load.measure.duration_s + load.timeout_s)


async def run_open(target: Target, bodies: bytes | Callable[[int], bytes], load: OpenLoad) -> LoadResult:
    """Drive `target` in an open loop; what is unanswered `timeout_s` after the last arrival counts as an error."""
    run = OpenRun(target, _framed(target, bodies), load)
    await run.open_all()
    run.start()
    return await _finish(run, load.warmup_s + load.duration_s + load.timeout_s)


def drive(target: Target, bodies: bytes | Callable[[int], bytes], load: ClosedLoad | OpenLoad) -> LoadResult:
    """Run either load on a loop of its own; for callers that are not asynchronous."""
    if isinstance(load, ClosedLoad):
        return uvloop.run(run_closed(target, bodies, load))
    return uvloop.run(run_open(target, bodies, load))


async def _finish(run: ClosedRun | OpenRun, limit_s: float) -> LoadResult:
    run.sweep()
    try:
        with suppress(TimeoutError):  # what is left then is counted by `close`
            async with asyncio.timeout(limit_s + GRACE_S):
                await run.finished.wait()
    finally:
        await run.close()
    return run.tally.result()


def _framed(target: Target, bodies: bytes | Callable[[int], bytes]) -> Callable[[int], bytes]:
    if isinstance(bodies, bytes):
        request = target.request(bodies)
        return lambda _: request
    return lambda index: target.request(bodies(index))
