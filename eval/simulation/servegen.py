"""ServeGen's clients, drawn: a rate and a burstiness per client and ten minutes, lengths per client and six hours.

client_rates.parquet: pool, client, ts, rate (requests a second), pattern (Gamma or Weibull) and its shape p1.
client_length_quantiles.parquet: pool, client, ts and the quantiles of input_tokens and output_tokens.
Source: Xiang et al. (arXiv 2505.09999); that a window's count is drawn first and its gaps fill it is ours, so that a
very bursty client keeps its rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from eval.simulation.arrival import TraceRow
from eval.simulation.client_lengths import LENGTHS_FILE, ClientLengths, read_lengths
from experts.errors import ConfigError, InvalidConfig
from routers.row_files import Problems, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from eval.metrics.shapes import F64

__all__ = ["LENGTHS_FILE", "RATES_FILE", "Sampling", "servegen_rows"]

RATES_FILE: Final = "client_rates.parquet"
WINDOW_S: Final = 600
_FINITE: Final = (1e-300, 1e290)  # shapes near 0 give gaps that are nothing, or without bound
_Above0 = Annotated[float, Meta(gt=0)]


@dataclass(frozen=True, slots=True)
class Sampling:
    """What to draw. pool: the first by name if None. rate_rps: every client's rate is scaled to this sum; None: as is.

    sessions_per_client: how many conversations a client has at a time.
    Raises: ConfigError: a value that cannot be, by its name.
    """

    pool: str | None = None
    start_s: float = 0.0
    duration_s: float = 3600.0
    rate_rps: float | None = 5.5
    sessions_per_client: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.start_s < 0:
            raise ConfigError("start_s", self.start_s, "must be at least 0")
        if self.sessions_per_client < 1:
            raise ConfigError("sessions_per_client", self.sessions_per_client, "must be at least 1")
        for name, rate in (("duration_s", self.duration_s), ("rate_rps", self.rate_rps)):
            if rate is not None and not (rate > 0 and math.isfinite(rate)):
                raise ConfigError(name, rate, "must be above 0")


class RateRow(msgspec.Struct, frozen=True):
    """One client in one window. p1: the shape of the distribution of its gaps."""

    pool: str
    client: int
    ts: Annotated[int, Meta(ge=0)]
    rate: _Above0
    pattern: Literal["Gamma", "Weibull"]
    p1: _Above0


def servegen_rows(folder: Path, sampling: Sampling) -> list[TraceRow]:
    """Draw the requests of `sampling`, unsorted, in the pool's seconds. The same seed draws the same ones.

    Raises: InvalidConfig: a file has bad rows, or no client of the pool sends anything in that time.
    ConfigError: pyarrow is not installed.
    """
    rates = _rates(folder / RATES_FILE, sampling)
    lengths = read_lengths(folder / LENGTHS_FILE, rates[0].pool)
    rng = np.random.default_rng(sampling.seed)
    scale = 1.0 if sampling.rate_rps is None else sampling.rate_rps / _total_rps(rates, sampling)
    return [row for rate in rates for row in _drawn(rate, scale, lengths, sampling, rng)]


def window_times(row: RateRow, scale: float, rng: np.random.Generator) -> F64:
    """When a client asks in one window: a Poisson count, with gaps of the client's own shape that fill the window.

    Shapes: -> (n,), rising, in [ts, ts + 600].
    """
    count = rng.poisson(row.rate * scale * WINDOW_S)
    gaps = rng.gamma(row.p1, size=count + 1) if row.pattern == "Gamma" else rng.weibull(row.p1, size=count + 1)
    ends = np.cumsum(np.clip(gaps, *_FINITE))
    return np.asarray(row.ts + WINDOW_S * (ends[:-1] / ends[-1]), dtype=np.float64)


def _drawn(
    rate: RateRow, scale: float, lengths: ClientLengths, sampling: Sampling, rng: np.random.Generator
) -> Iterator[TraceRow]:
    times = window_times(rate, scale, rng)
    prompt, output = lengths.draw(rate.client, rate.ts, len(times), rng)
    places = rng.integers(sampling.sessions_per_client, size=len(times))
    end_s = sampling.start_s + sampling.duration_s
    for at_s, prompt_tokens, output_tokens, place in zip(
        times.tolist(), prompt.tolist(), output.tolist(), places.tolist(), strict=True
    ):
        if sampling.start_s <= at_s < end_s:
            yield TraceRow(at_s, prompt_tokens, output_tokens, f"client-{rate.client}.{place}")


def _rates(path: Path, sampling: Sampling) -> list[RateRow]:
    problems = Problems(path)
    rows = [row for _, row in read_rows(path, RateRow, problems)]
    problems.refuse()
    pools = sorted({row.pool for row in rows})
    pool = sampling.pool if sampling.pool is not None or not pools else pools[0]
    if pool not in pools:
        raise InvalidConfig(str(path), [ConfigError("pool", pool, f"is none of {', '.join(pools) or 'nothing'}")])
    wanted = [row for row in rows if row.pool == pool and _overlap_s(row, sampling) > 0]
    if not wanted:
        span = f"[{sampling.start_s:g}, {sampling.start_s + sampling.duration_s:g}) s"
        raise InvalidConfig(str(path), [ConfigError("pool", pool, f"has no request in {span}")])
    return wanted


def _total_rps(rates: Sequence[RateRow], sampling: Sampling) -> float:
    return sum(row.rate * _overlap_s(row, sampling) for row in rates) / sampling.duration_s


def _overlap_s(row: RateRow, sampling: Sampling) -> float:
    return min(row.ts + WINDOW_S, sampling.start_s + sampling.duration_s) - max(row.ts, sampling.start_s)
