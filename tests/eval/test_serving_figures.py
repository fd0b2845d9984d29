from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from eval.serving.bench_document import gateway_document
from eval.serving.children import module_server
from eval.serving.gateway_bench import GatewayBench, Plan, Sample, Scenario, open_rates
from eval.serving.machine import this_machine
from eval.serving.pairing import Spread, minus, over, paired_ratios, spread
from eval.serving.rows import ratios, rows
from eval.serving.systems import LineUp, System
from eval.serving.tally import LoadResult, Percentiles, Tally, percentiles
from eval.serving.wire_client import Exchange, Target

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = Scenario(stream=False, connections=16)
STREAM = Scenario(stream=True, connections=1)


def result(
    rps: float, p50_ms: float, *, errors: dict[str, int] | None = None, ttft_ms: float | None = None
) -> LoadResult:
    times = Percentiles(p50_ms, p50_ms * 2, p50_ms * 3, p50_ms, p50_ms * 4)
    ttft = None if ttft_ms is None else Percentiles(ttft_ms, ttft_ms, ttft_ms, ttft_ms, ttft_ms)
    found = errors or {}
    return LoadResult(100 + sum(found.values()), 100, found, 25, 1.0, rps, times, ttft, None, {"route_ms": times})


def sample(number: int, system: str, measured: LoadResult, baseline: LoadResult, scenario: Scenario = PLAIN) -> Sample:
    seen = measured.sent + measured.warmup
    return Sample(number, system, scenario, measured, baseline, cpu_s=0.5, upstream_requests=seen)


def test_percentiles_of_known_times() -> None:
    found = percentiles([number / 1000 for number in range(101)])
    assert found is not None
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == pytest.approx((50, 95, 99))
    assert (found.mean_ms, found.max_ms) == pytest.approx((50, 100))
    assert percentiles([]) is None


def test_tally_keeps_warmup_and_errors_apart_and_counts_from_the_intended_send() -> None:
    tally = Tally(stream=True)
    tally.add(Exchange(0.0, 0.0, measured=False, ended_s=9.0))
    tally.add(Exchange(1.0, 1.5, measured=True, first_body_s=1.75, ended_s=2.0))
    tally.add(Exchange(2.0, 2.0, measured=True, first_body_s=2.25, ended_s=3.0, error="http_500"))
    tally.add(Exchange(3.0, 3.0, measured=True, first_body_s=3.25, ended_s=5.0))
    found = tally.result()
    assert (found.sent, found.completed, found.errors, found.warmup) == (3, 2, {"http_500": 1}, 1)
    assert (found.elapsed_s, found.rps) == (4.0, 0.5)
    assert found.latency is not None
    assert found.ttft is not None
    assert found.send_lag is not None
    assert (found.latency.p50_ms, found.ttft.p50_ms, found.send_lag.max_ms) == (1500, 500, 500)


def test_spread_is_median_and_range_of_the_rounds_that_have_a_value() -> None:
    assert spread([3.0, None, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0)
    assert spread([1.0, 2.0]) == Spread(1.5, 1.0, 2.0)
    assert spread([None]) is None


def test_pairing_needs_both_sides() -> None:
    assert (minus(3.0, 1.0), minus(None, 1.0), minus(1.0, None)) == (2.0, None, None)
    assert (over(3.0, 2.0), over(3.0, 0.0), over(None, 1.0), over(0.0, 2.0)) == (1.5, None, None, 0.0)
    assert paired_ratios({0: 10.0, 1: 20.0, 2: 5.0}, {0: 2.0, 1: 10.0}) == {0: 5.0, 1: 2.0, 2: None}


def test_added_latency_is_paired_inside_a_round() -> None:
    # In round 1 the machine is slow for everyone: unpaired medians would say 4 - 1 = 3 ms, paired rounds say 2 and 3.
    quiet, noisy = result(1000, 1.0), result(100, 10.0)
    (row,) = rows([sample(0, "ours", result(300, 3.0), quiet), sample(1, "ours", result(50, 13.0), noisy)])
    assert row.added_p50_ms == Spread(2.5, 2.0, 3.0)
    assert row.added_p95_ms == Spread(5.0, 4.0, 6.0)
    assert row.added_p99_ms == Spread(7.5, 6.0, 9.0)
    assert row.rps == Spread(175, 50, 300)
    assert (row.ttft_p50_ms, row.added_ttft_p50_ms) == (None, None)


def test_a_row_sums_errors_and_shows_requests_the_mock_did_not_see() -> None:
    base = result(1000, 1.0, ttft_ms=0.5)
    first = sample(0, "ours", result(10, 3.0, errors={"http_500": 2}, ttft_ms=2.0), base, STREAM)
    second = sample(1, "ours", result(10, 3.0, errors={"http_500": 1, "timeout": 4}, ttft_ms=3.0), base, STREAM)
    lost = Sample(2, "ours", STREAM, result(10, 3.0, ttft_ms=4.0), base, cpu_s=0.5, upstream_requests=120)
    (row,) = rows([first, second, lost])
    assert row.errors == {"http_500": 3, "timeout": 4}
    assert row.requests == 307
    assert row.upstream_mismatch == -5
    assert row.added_ttft_p50_ms == Spread(2.5, 1.5, 3.5)
    assert row.cpu_ms_per_request == Spread(4.0, 4.0, 4.0)  # 0.5 s over 100 measured and 25 warm-up requests
    assert row.server_p50_ms == {"route_ms": 3.0}


def test_ratios_are_paired_by_round_and_only_between_systems_that_ran() -> None:
    base = result(1000, 1.0)
    taken = [
        *(sample(number, "ours", result(rps, 1.0), base) for number, rps in enumerate((400.0, 100.0, 300.0))),
        *(sample(number, "litellm", result(rps, 1.0), base) for number, rps in enumerate((40.0, 5.0, 60.0))),
    ]
    (ratio,) = ratios(taken)
    assert (ratio.of, ratio.to, ratio.rps) == ("ours", "litellm", Spread(10.0, 5.0, 20.0))


def test_open_loop_rates_are_a_share_of_the_median_plain_capacity() -> None:
    base = result(1000, 1.0)
    taken = [sample(number, "ours", result(rps, 1.0), base) for number, rps in enumerate((100.0, 300.0, 900.0))]
    taken.append(sample(0, "ours", result(9999, 1.0), base, STREAM))
    assert open_rates(taken, 0.5) == {"ours": 150.0}


def test_a_whole_run_against_mock_and_bare_proxy(tmp_path: Path) -> None:
    arguments = ["--deltas", "4"]
    with module_server("eval.serving.mock_upstream", arguments, tmp_path / "mock.log", sys.executable) as (mock, port):
        line_up = LineUp(port, deltas=4)
        upstream = ["--upstream", line_up.upstream]
        with module_server("eval.serving.bare_proxy", upstream, tmp_path / "bare.log", sys.executable) as (bare, to):
            line_up.admit(System("direct", "direct", "", Target("127.0.0.1", port), mock))
            line_up.admit(System("bare", "bare", "", Target("127.0.0.1", to), bare, model="auto", cold=True))
            plan, told = Plan(rounds=2, seconds_s=0.1, warmup_s=0.02), list[str]()
            samples = GatewayBench(line_up, plan, told.append).run()
            date, machine = datetime(2026, 1, 2, tzinfo=UTC), this_machine()
            document = gateway_document(line_up, plan, samples, command=("coe",), date=date, machine=machine)
    assert [system.name for system in document.systems] == ["direct", "bare"]
    assert {row.load for row in document.rows if row.system == "bare"} == {"closed", "open"}
    assert [row.upstream_mismatch for row in document.rows] == [0] * 9
    assert all(row.requests and not row.errors for row in document.rows)
    assert all(row.added_p50_ms == Spread(0, 0, 0) for row in document.rows if row.system == "direct")
    assert len(told) == 2 * (2 * 4 + 2)
