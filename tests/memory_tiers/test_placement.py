"""Who is where before the first request."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from experts.types import ExpertId
from memory_tiers.placement import placement
from memory_tiers.types import Footprint, Tier

NAMES = [ExpertId(f"e{number}") for number in range(8)]


def of(tier: Tier, plan: list[tuple[ExpertId, Tier]]) -> list[ExpertId]:
    return [expert for expert, own in plan if own is tier]


def test_the_likeliest_are_on_the_devices_and_those_that_follow_in_host_memory() -> None:
    footprints = {name: Footprint(10, 10) for name in NAMES}
    plan = placement(NAMES, footprints, [10, 10], 30)
    assert of(Tier.DEVICE, plan) == NAMES[:2]
    assert of(Tier.HOST, plan) == NAMES[2:5]


def test_who_is_on_a_device_has_a_copy_once_everybody_else_has_one() -> None:
    footprints = {name: Footprint(10, 10) for name in NAMES}
    plan = placement(NAMES, footprints, [20], 70)
    assert of(Tier.HOST, plan) == [*NAMES[2:], NAMES[0]]


def test_one_that_does_not_fit_is_passed_over() -> None:
    footprints = {
        NAMES[0]: Footprint(50, 50),
        NAMES[1]: Footprint(0, 0),
        NAMES[2]: Footprint(20),
        NAMES[3]: Footprint(9),
    }
    plan = placement(list(footprints), footprints, [30], 40)
    assert plan == [(NAMES[2], Tier.DEVICE), (NAMES[3], Tier.DEVICE)]  # remote ones are nowhere, nor are the unstaged


@given(
    sizes=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=8),
    devices=st.lists(st.integers(0, 80), min_size=1, max_size=3),
    host=st.integers(0, 120),
)
def test_no_budget_is_overdrawn_and_what_is_left_out_fits_nowhere(
    sizes: list[tuple[int, int]], devices: list[int], host: int
) -> None:
    footprints = {name: Footprint(*size) for name, size in zip(NAMES, sizes, strict=False)}
    plan = placement(list(footprints), footprints, devices, host)
    on_device, staged = of(Tier.DEVICE, plan), of(Tier.HOST, plan)
    assert len(plan) == len(set(plan))
    free = list(devices)
    for expert in on_device:  # the emptiest takes the next one
        place = max(range(len(free)), key=free.__getitem__)
        free[place] -= footprints[expert].device_bytes
    assert min(free) >= 0
    held = sum(footprints[expert].host_bytes for expert in staged)
    assert held <= host
    for expert, size in footprints.items():
        assert expert in on_device or size.device_bytes == 0 or size.device_bytes > max(free)
        assert expert in staged or size.host_bytes == 0 or size.host_bytes > host - held
