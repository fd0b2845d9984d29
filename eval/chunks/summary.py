"""A method's outcomes in a few figures."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.chunks.document import MethodRun, Outcome

BYTES_PER_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Summary:
    """Ratios are of the context's tokens; times are medians; the rest are means."""

    method: str
    computed_ratio: float
    loaded_mib: float
    divergence: float
    agreed: float
    ttft_s: float
    processor_s: float


def summary(run: MethodRun) -> Summary:
    """Raises: StatisticsError: nothing was measured."""
    return Summary(
        run.method,
        computed_ratio(run.outcomes),
        fmean(each.loaded_bytes for each in run.outcomes) / BYTES_PER_MIB,
        fmean(each.divergence for each in run.outcomes),
        fmean(each.agreed for each in run.outcomes),
        median(each.ttft_s for each in run.outcomes),
        median(each.processor_s for each in run.outcomes),
    )


def computed_ratio(outcomes: Sequence[Outcome]) -> float:
    """The share of all context tokens that was computed."""
    return sum(each.computed_tokens for each in outcomes) / sum(each.context_tokens for each in outcomes)


def times_faster(run: MethodRun, than: MethodRun) -> tuple[float, float]:
    """The median over requests of how many times sooner its first token is, by the clock and by processor time."""
    pairs = list(zip(run.outcomes, than.outcomes, strict=True))
    return median(b.ttft_s / a.ttft_s for a, b in pairs), median(b.processor_s / a.processor_s for a, b in pairs)
