"""The configuration of residency: what experts may take of which memory, and how long anybody waits for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import ByteSize, Field, NonNegativeFloat, PositiveFloat

from experts.entry import Entry
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.registry import ExpertEntry

MiB = 1024**2


class ResidencySettings(Entry):
    """Which experts may be on the device together."""

    device_budget_bytes: ByteSize = Field(
        default=ByteSize(1024 * MiB), ge=0, description="memory all resident experts may take together"
    )
    device_budgets_bytes: tuple[ByteSize, ...] = Field(
        default=(), description="instead, where there are several devices: what residents may take of each, from 0 on"
    )
    host_budget_bytes: ByteSize = Field(
        default=ByteSize(0), ge=0, description="memory for copies of weights, so that a load reads no disk; 0: none"
    )
    load_timeout_s: PositiveFloat = Field(default=120.0, description="a load that takes longer has failed")
    join_window_s: NonNegativeFloat = Field(
        default=2.0, description="how long a waiting request lets others join a busy expert whose room it needs"
    )
    max_wait_s: PositiveFloat = Field(
        default=60.0, description="within which a request is to have its expert; one that cannot is refused with 429"
    )
    classes: dict[str, PositiveFloat] = Field(
        default_factory=dict,
        description="what a request may name in `x-coe-class`, and the `max_wait_s` of its kind; others are refused",
    )
    preload: tuple[str, ...] = Field(
        default=(), description="experts to have in place before the gateway is ready, the likeliest to be asked first"
    )
    pinned: tuple[str, ...] = Field(default=(), description="experts that are never evicted once they are loaded")
    prefetch: bool = Field(default=True, description="bring experts in before anybody asks, while nobody waits")
    policy: Literal["default", "lru", "lfu", "gdsf", "keep-score", "mrs", "s3-fifo", "arc", "belady-window"] = Field(
        default="default", description="who is worth keeping; `default` predicts who is asked for next"
    )

    @property
    def budgets_bytes(self) -> list[int]:
        """The budget of each device."""
        return [int(budget) for budget in self.device_budgets_bytes or (self.device_budget_bytes,)]


def check_residency(residency: ResidencySettings, experts: Sequence[ExpertEntry]) -> None:
    """Raises: ConfigError: it names an expert that is none; an expert names a device that is none."""
    known = [entry.id for entry in experts]
    for key, names in (("preload", residency.preload), ("pinned", residency.pinned)):
        for name in names:
            if name not in known:
                raise ConfigError(f"residency.{key}", name, f"is not an expert; known: {', '.join(known)}")
    devices = len(residency.budgets_bytes)
    for i, entry in enumerate(experts):
        device = entry.spec().device
        if device is not None and device >= devices:
            problem = (
                f"there is a budget for {devices}, counted from 0: residency.device_budgets_bytes has one for each"
            )
            raise ConfigError(f"experts[{i}].device", device, problem)
