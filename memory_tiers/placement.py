"""Who is where before the first request: a plan by how often each expert is expected to be asked for. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory_tiers.types import Tier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from experts.types import ExpertId
    from memory_tiers.types import Footprint


def placement(
    order: Sequence[ExpertId], footprints: Mapping[ExpertId, Footprint], device_budgets: Sequence[int], host_bytes: int
) -> list[tuple[ExpertId, Tier]]:
    """Fill the devices with the likeliest experts that fit, then host memory with those that follow.

    Experts on a device get a host copy only where all others have one: theirs is needed last.
    order: the likeliest first.
    """
    free = list(device_budgets)
    on_device: list[ExpertId] = []
    for expert_id in order:
        need = footprints[expert_id].device_bytes
        device = max(footprints[expert_id].devices(len(free)), key=free.__getitem__)
        if 0 < need <= free[device]:
            free[device] -= need
            on_device.append(expert_id)
    staged: list[ExpertId] = []
    for expert_id in [*(e for e in order if e not in on_device), *on_device]:
        need = footprints[expert_id].host_bytes
        if 0 < need <= host_bytes:
            host_bytes -= need
            staged.append(expert_id)
    return [*((e, Tier.DEVICE) for e in on_device), *((e, Tier.HOST) for e in staged)]
