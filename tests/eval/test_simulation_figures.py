"""What a run is summed up to, and the rate that is found: by hand, and by looking on both sides of it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from eval.simulation.arrival import Arrival, TraceRow
from eval.simulation.assignment import Mix, assign
from eval.simulation.hardware import Hardware
from eval.simulation.pace import at_rate
from eval.simulation.simulate import Figures, Setting, figures, find_rate, policy_names, run, scheduler_for, simulate
from eval.simulation.world import Served
from experts.errors import ConfigError
from experts.types import ExpertId
from memory_tiers.rules import Rules
from memory_tiers.types import Tier
from tests.simulation_cases import rows

SIZE = 100
FAST = Hardware("fast", 1, 2 * SIZE, 4 * SIZE, 100.0, 50.0, 1e6, 0.01, wake_s=0.0)  # 1 s over the link, 2 s to read
MIX = Mix(experts=6, zipf=1.0, sessions=8, stickiness=0.5)
SETTING = Setting(FAST, MIX, expert_bytes=SIZE, rules=Rules(loads=1, max_wait_s=20.0))


def fate(
    at_s: float, wait_s: float | None, ttft_s: float | None, total_s: float | None, *, hit: bool = False
) -> Served:
    return Served(Arrival(at_s, ExpertId("expert-00"), "one", 1, 1), wait_s, ttft_s, total_s, hit)


def test_figures_by_hand() -> None:
    scheduler = scheduler_for(SETTING, [ExpertId("expert-00")])
    tally = scheduler.tally
    tally.loads.update({Tier.HOST: 3, Tier.DISK: 1})
    tally.stagings, tally.moved_bytes, tally.hidden, tally.wasted = 2, 2_500_000_000, 1, 2
    served = [
        fate(0, 0.0, 1.0, 2.0, hit=True),
        fate(1, 4.0, 5.0, 9.0),
        fate(2, None, None, None),
        fate(3, 1.0, 3.0, 4.0),
    ]
    found = figures(served, scheduler, SETTING, 4.0)
    assert (found.requests, found.completed, found.refused) == (4, 3, 1)
    assert found.hit_ratio == 0.25
    assert found.swaps_per_1000 == 1000.0
    assert found.disk_loads_per_1000 == 750.0
    assert found.moved_gb == 2.5
    assert (found.ttft_s.mean, found.ttft_s.p50) == (3.0, 3.0)
    assert found.total_s.mean == 5.0
    assert found.max_wait_s == 4.0
    assert found.simulated_s == 10.0  # the answer that began at 1 ends last
    assert found.slo_ratio == 0.5  # of all four; the refused one is not within
    assert found.goodput_rps == 0.2
    assert (found.hidden_swap_ratio, found.wasted_swap_ratio) == (0.25, 0.5)
    assert found.suitability.slots == 2


def test_a_run_without_an_answer_is_an_error_and_not_a_figure() -> None:
    with pytest.raises(ConfigError, match="none of them was answered"):
        figures([fate(0, None, None, None)], scheduler_for(SETTING, []), SETTING, 1.0)


@pytest.mark.parametrize("policy", ["fifo-lru", "fifo-lfu", "group-lru", "lru", "default"])
def test_every_request_is_counted_once_and_a_run_repeats(policy: str) -> None:
    trace = at_rate(rows(200), 0.5)
    setting = replace(SETTING, policy=policy)
    found = simulate(trace, setting, 10.0)
    assert found.completed + found.refused == found.requests == 200
    assert found == simulate(trace, setting, 10.0)
    assert found.ttft_s.p50 <= found.ttft_s.p95 <= found.ttft_s.p99
    assert found != simulate(trace, replace(setting, seed=1), 10.0)


def test_placed_experts_are_there_and_a_cold_start_has_none() -> None:
    trace = assign(at_rate(rows(20), 0.05), MIX, 0)
    (placed, _), (cold, _) = (run(trace, replace(SETTING, placed=start), check=True) for start in (True, False))
    assert cold[0].wait_s == pytest.approx(3.0)  # read, then loaded
    assert placed[0].wait_s in {0.0, 1.0}  # there, or loaded from host memory
    assert all((fate.wait_s or 0.0) <= 3.0 for fate in placed)


def test_slots_take_the_place_of_the_machines_own_bytes() -> None:
    assert SETTING.device_budgets == [200]
    assert SETTING.host_bytes == 400
    slots = replace(SETTING, device_slots=3, host_slots=0)
    assert (slots.device_budgets, slots.host_bytes) == ([300], 0)
    assert Setting(replace(FAST, devices=2), MIX, expert_bytes=SIZE).device_budgets == [200, 200]


def rate_of(policy: str, precision: float = 0.01) -> tuple[float, Figures]:
    return find_rate(rows(400), replace(SETTING, policy=policy), 5.0, precision=precision)


@pytest.mark.parametrize("policy", ["fifo-lru", "default"])
def test_the_rate_found_keeps_the_promise_and_a_little_more_breaks_it(policy: str) -> None:
    rate, found = rate_of(policy)
    assert found.rate_rps == round(rate, 4)
    assert found.slo_ratio >= 0.95
    again = simulate(at_rate(rows(400), rate), replace(SETTING, policy=policy), 5.0)
    assert msgspec.structs.replace(found, rate_rps=None) == again
    more = simulate(at_rate(rows(400), rate * 1.05), replace(SETTING, policy=policy), 5.0)
    assert more.slo_ratio < 0.95


def test_a_coarser_search_finds_no_more_and_is_within_its_precision() -> None:
    fine, coarse = rate_of("default")[0], rate_of("default", 0.2)[0]
    assert coarse <= fine <= coarse * 1.2 + 1e-9


def test_grouping_and_foresight_serve_more_than_order_of_arrival() -> None:
    fifo, grouped, default = (rate_of(policy, 0.05)[0] for policy in ("fifo-lru", "group-lru", "default"))
    assert fifo < grouped < default


def test_a_promise_that_cannot_be_kept_at_any_rate_is_named() -> None:
    with pytest.raises(ConfigError, match=r"--find-rate.*longer than 0.001 s"):
        find_rate(rows(50), SETTING, 0.001)


def test_more_time_never_finds_a_lower_rate() -> None:
    rates = [find_rate(rows(300), SETTING, bound_s, precision=0.02)[0] for bound_s in (3.2, 4.0, 5.0)]
    assert rates == sorted(rates)


def test_a_trace_so_short_that_any_rate_will_do_is_named() -> None:
    with pytest.raises(ConfigError, match="is kept even if all 5 requests come at once"):
        find_rate(rows(5), SETTING, 60.0)


def test_an_expert_that_fits_no_device_and_a_policy_that_is_none_are_named() -> None:
    with pytest.raises(ConfigError, match="holds no expert of 300 bytes"):
        simulate(rows(3), replace(SETTING, expert_bytes=300), 1.0)
    for policy in ("fifo-", "fifo-nobody", "nobody", "group-"):
        with pytest.raises(ConfigError, match=r"--policy.*is none of fifo-lru"):
            simulate(rows(3), replace(SETTING, policy=policy), 1.0)
    assert {"fifo-lru", "fifo-lfu", "group-lru", "default"} <= set(policy_names())


def test_experts_that_a_trace_names_are_served_beside_those_of_the_mix() -> None:
    named = [TraceRow(float(number), 10, 10, "s", ExpertId("ours")) for number in range(5)]
    assert simulate(named, SETTING, 10.0).completed == 5
