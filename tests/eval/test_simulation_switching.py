"""SN40L's published figures, out of the closed model and out of the scheduler on the virtual clock."""

from __future__ import annotations

import pytest

from eval.simulation.hardware import PROFILES
from eval.simulation.switching import Switching, simulated, switching_curve
from experts.errors import ConfigError

A100, H100, SN40L = (Switching(PROFILES[name]) for name in ("dgx-a100", "dgx-h100", "sn40l"))


def test_a_switch_takes_as_long_as_published() -> None:
    assert [round(1000 * machine.switch_s, 1) for machine in (A100, H100, SN40L)] == [421.2, 210.6, 13.5]
    assert SN40L.switch_speedup_over(A100) == pytest.approx(31.25)
    assert SN40L.switch_speedup_over(H100) == pytest.approx(15.625)


@pytest.mark.parametrize(
    ("batch", "over_a100", "over_h100"), [(8, 6.6, 3.7), (1, 4.8, 2.8)], ids=["batches of 8", "single requests"]
)
def test_two_times_give_the_four_published_ratios(batch: int, over_a100: float, over_h100: float) -> None:
    assert round(SN40L.speedup_over(A100, batch), 1) == over_a100
    assert round(SN40L.speedup_over(H100, batch), 1) == over_h100


def test_a_dgx_holds_47_experts_and_ends_before_150() -> None:
    for dgx in (A100, H100):
        assert dgx.held == 47
        assert dgx.most_experts == 148
        assert dgx.machines_for(850) == 19
        with pytest.raises(ConfigError, match=r"^experts = 150: out of memory: dgx-.100 holds 47 on its devices, 148"):
            dgx.latency_s(150)


def test_an_sn40l_holds_850_experts_and_no_thousand() -> None:
    SN40L.check(850)
    assert SN40L.latency_s(850) < 1.2 * SN40L.latency_s(10)
    with pytest.raises(ConfigError, match="out of memory"):
        SN40L.check(1000)


@pytest.mark.parametrize("policy", ["group-lru", "default"])
@pytest.mark.parametrize("machine", [A100, H100], ids=["dgx-a100", "dgx-h100"])
def test_the_simulator_has_the_knee_where_the_devices_are_full(machine: Switching, policy: str) -> None:
    curve = switching_curve(machine.hardware, [10, 47, 60, 100, 148, 150], policy, requests=400)
    flat, last, knee, twice, full, over = curve.points
    assert flat.latency_s == last.latency_s == pytest.approx(machine.latency_s(10), abs=1e-4)
    assert knee.latency_s > 1.25 * last.latency_s
    assert last.latency_s < knee.latency_s < twice.latency_s < full.latency_s
    for point in (flat, last, knee, twice, full):
        assert point.latency_s == pytest.approx(point.closed_s, rel=0.08)
    assert over.latency_s is None
    assert over.out_of_memory.startswith("out of memory")


def test_the_simulator_serves_850_experts_on_an_sn40l() -> None:
    hit_ratio, latency_s = simulated(SN40L, 850, "group-lru", requests=300)
    assert hit_ratio == pytest.approx(37 / 850, abs=0.03)
    assert latency_s == pytest.approx(SN40L.latency_s(850), rel=0.02)


def test_no_experts_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="experts = 0: must be at least 1"):
        switching_curve(PROFILES["sn40l"], [0])
