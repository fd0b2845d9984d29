"""What a load run measured, and the arithmetic that summarises it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eval.serving.wire_client import Exchange


@dataclass(frozen=True, slots=True)
class Percentiles:
    """A distribution of times in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class LoadResult:
    """One load run, warm-up excluded.

    sent = completed + the sum of errors. rps: completed over elapsed_s, first intended send to last end. latency:
    from the intended send to the end, of completed exchanges; None when there are none. ttft: the same to the first
    byte of the body, for streams. send_lag: how late the generator itself was. server: `x-coe-*-ms` headers.
    """

    sent: int
    completed: int
    errors: Mapping[str, int]
    warmup: int
    elapsed_s: float
    rps: float
    latency: Percentiles | None
    ttft: Percentiles | None
    send_lag: Percentiles | None
    server: Mapping[str, Percentiles]


def percentiles(times_s: Sequence[float]) -> Percentiles | None:
    """Summarise times in seconds, linearly interpolated; None for no times."""
    if not times_s:
        return None
    times_ms = np.asarray(times_s, dtype=np.float64) * 1000
    p50, p95, p99 = np.percentile(times_ms, (50, 95, 99)).tolist()
    return Percentiles(p50, p95, p99, float(times_ms.mean()), float(times_ms.max()))


@dataclass(slots=True)
class Tally:
    """Gathers exchanges while a run goes on."""

    stream: bool
    warmup: int = 0
    exchanges: list[Exchange] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, exchange: Exchange) -> None:
        """Count one finished exchange; warm-up is counted apart."""
        if not exchange.measured:
            self.warmup += 1
        elif exchange.error is None:
            self.exchanges.append(exchange)
        else:
            self.errors[exchange.error] += 1

    def result(self) -> LoadResult:
        """Summarise what was gathered."""
        done = self.exchanges
        begin_s = min((e.intended_s for e in done), default=0.0)
        elapsed_s = max((e.ended_s for e in done), default=0.0) - begin_s
        server: defaultdict[str, list[float]] = defaultdict(list)
        for exchange in done:
            for name, value_ms in exchange.server_ms:
                server[name].append(value_ms / 1000)
        summaries = {name: percentiles(values) for name, values in sorted(server.items())}
        return LoadResult(
            sent=len(done) + self.errors.total(),
            completed=len(done),
            errors=dict(sorted(self.errors.items())),
            warmup=self.warmup,
            elapsed_s=elapsed_s,
            rps=len(done) / elapsed_s if elapsed_s > 0 else 0.0,
            latency=percentiles([e.ended_s - e.intended_s for e in done]),
            ttft=percentiles([e.first_body_s - e.intended_s for e in done]) if self.stream else None,
            send_lag=percentiles([e.sent_s - e.intended_s for e in done]),
            server={name: summary for name, summary in summaries.items() if summary is not None},
        )
