"""From samples to the figures of the document: one row per system and scenario, and the ratios between systems."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, Final, Literal

from eval.serving.document import Ratio, Row
from eval.serving.pairing import minus, over, paired_ratios, spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eval.serving.gateway_bench import Sample, Scenario
    from eval.serving.pairing import Spread
    from eval.serving.tally import Percentiles

OURS: Final = ("ours", "ours-auto-cached", "ours-auto-cold")
OTHERS: Final = ("bare", "portkey", "litellm", "litellm-2-workers")
Percentile = Literal["p50_ms", "p95_ms", "p99_ms"]


def rows(samples: Sequence[Sample]) -> tuple[Row, ...]:
    """Summarise every system and scenario over its rounds, in the order of first appearance."""
    groups: dict[tuple[str, Scenario], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.system, sample.scenario), []).append(sample)
    return tuple(_row(group) for group in groups.values())


def ratios(samples: Sequence[Sample]) -> tuple[Ratio, ...]:
    """Compare requests per second, ours with the others', the bare proxy's with the peers', paired by round."""
    closed = [sample for sample in samples if sample.scenario.rate_rps is None]
    scenarios = dict.fromkeys(sample.scenario for sample in closed)
    pairs = [*product(OURS, OTHERS), *(("bare", other) for other in OTHERS[1:])]
    found = (_ratio(closed, of, to, scenario) for scenario in scenarios for of, to in pairs)
    return tuple(ratio for ratio in found if ratio is not None)


def _ratio(samples: Iterable[Sample], of: str, to: str, scenario: Scenario) -> Ratio | None:
    rps: dict[str, dict[int, float | None]] = {of: {}, to: {}}
    for sample in samples:
        if sample.scenario == scenario and sample.system in rps:
            rps[sample.system][sample.round] = sample.result.rps
    over_rounds = spread(paired_ratios(rps[of], rps[to]).values())
    return None if over_rounds is None else Ratio(of, to, scenario.stream, scenario.connections, over_rounds)


def _row(group: Sequence[Sample]) -> Row:
    scenario, errors = group[0].scenario, Counter[str]()
    for sample in group:
        errors.update(sample.result.errors)
    return Row(
        system=group[0].system,
        load="closed" if scenario.rate_rps is None else "open",
        stream=scenario.stream,
        connections=scenario.connections,
        rate_rps=scenario.rate_rps,
        requests=sum(sample.result.sent for sample in group),
        errors=dict(sorted(errors.items())),
        upstream_mismatch=sum(s.upstream_requests - s.result.sent - s.result.warmup for s in group),
        rps=spread(sample.result.rps for sample in group),
        p50_ms=_latency(group, "p50_ms"),
        p95_ms=_latency(group, "p95_ms"),
        p99_ms=_latency(group, "p99_ms"),
        ttft_p50_ms=spread(_read(s.result.ttft, "p50_ms") for s in group),
        added_p50_ms=_added(group, "p50_ms"),
        added_p95_ms=_added(group, "p95_ms"),
        added_p99_ms=_added(group, "p99_ms"),
        added_ttft_p50_ms=spread(
            minus(_read(s.result.ttft, "p50_ms"), _read(s.baseline.ttft, "p50_ms")) for s in group
        ),
        cpu_ms_per_request=spread(over(s.cpu_s * 1000, s.result.completed + s.result.warmup) for s in group),
        server_p50_ms=_server(group),
    )


def _read(times: Percentiles | None, which: Percentile) -> float | None:
    return None if times is None else float(getattr(times, which))


def _latency(group: Sequence[Sample], which: Percentile) -> Spread | None:
    return spread(_read(sample.result.latency, which) for sample in group)


def _added(group: Sequence[Sample], which: Percentile) -> Spread | None:
    return spread(minus(_read(s.result.latency, which), _read(s.baseline.latency, which)) for s in group)


def _server(group: Sequence[Sample]) -> dict[str, float]:
    names = sorted({name for sample in group for name in sample.result.server})
    found = {name: spread(_read(s.result.server.get(name), "p50_ms") for s in group) for name in names}
    return {name: round(value.median, 4) for name, value in found.items() if value is not None}
